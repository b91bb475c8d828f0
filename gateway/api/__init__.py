"""Control routes: attestation, receipts, models, health; and the admin listener."""
