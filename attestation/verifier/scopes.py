"""Which required checks apply to less than a whole bundle, and whom checks are about."""

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

LOG_SUBJECT = "log of "
"""How the subject of a log's completeness begins; the boot's name follows."""
