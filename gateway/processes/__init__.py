"""`attested serve` as processes: a supervisor, the notary, and workers."""
