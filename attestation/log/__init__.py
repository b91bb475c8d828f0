"""A whole log checked as an outsider would: its checkpoint, its tiles, its entries.

What the log is read from is a `Source` (a folder, a URL, test data); nothing here does I/O.
"""

from attestation.log.audit import Held, LogReport, SignedCheckpoint, audit_log, read_checkpoint
from attestation.log.entries import Leaf, log_entry
from attestation.log.history import CONFLICTS, require_extends, require_not_behind
from attestation.log.resources import CHECKPOINT, Resources, Source
from attestation.log.state import MonitorState, parse_state
from attestation.log.tree import verify_tree

__all__ = [
    "CHECKPOINT",
    "CONFLICTS",
    "Held",
    "Leaf",
    "LogReport",
    "MonitorState",
    "Resources",
    "SignedCheckpoint",
    "Source",
    "audit_log",
    "log_entry",
    "parse_state",
    "read_checkpoint",
    "require_extends",
    "require_not_behind",
    "verify_tree",
]
