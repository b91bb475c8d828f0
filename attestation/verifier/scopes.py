"""Which required checks apply when there is less to look at than a whole bundle."""

from attestation.checks import QUOTE_FLOOR

QUOTE_SCOPE = QUOTE_FLOOR | {"PLATFORM"}
"""A quote by itself."""

BOOT_SCOPE = QUOTE_SCOPE | {
    "BUNDLE",
    "BOOT-STATEMENT",
    "BOOT-CHAIN",
    "KEYSET",
    "GPU-GENUINE",
    "GPU-MEASUREMENTS",
    "GPU-BINDING",
}
"""The boots of a bundle without its receipts."""
