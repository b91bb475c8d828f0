"""What a boot says about itself, and how a quote is bound to it.

A statement is canonical JSON; the quote's REPORTDATA is its hash.  So one hardware signature
vouches for every key, digest and number that a statement names.
"""

from attestation.statement.boot import BootStatement, PreviousBoot, parse_boot_statement
from attestation.statement.common import log_origin, report_data
from attestation.statement.keyset import Keyset, parse_keyset
from attestation.statement.parse import Statement, parse_statement
from attestation.statement.running import (
    ChallengeStatement,
    EpochStatement,
    grants_digest,
    nonce_root,
    parse_challenge_statement,
    parse_epoch_statement,
)

__all__ = [
    "BootStatement",
    "ChallengeStatement",
    "EpochStatement",
    "Keyset",
    "PreviousBoot",
    "Statement",
    "grants_digest",
    "log_origin",
    "nonce_root",
    "parse_boot_statement",
    "parse_challenge_statement",
    "parse_epoch_statement",
    "parse_keyset",
    "parse_statement",
    "report_data",
]
