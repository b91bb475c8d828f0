"""One remark of `attested policy lint`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters.

    ERROR: the policy cannot do what this line says.  WARNING: it accepts more than a careful
    verifier would.  NOTE: worth knowing, and often on purpose.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a policy says or leaves out at one key.

    `code` is stable and for programs, `path` the key as the file writes it, `meaning` what
    follows from it, `remedy` what to do.
    """

    severity: Severity
    code: str
    path: str
    meaning: str
    remedy: str


def error(code: str, path: str, meaning: str, remedy: str) -> Finding:
    """Return a finding about a line that cannot do what it says."""
    return Finding(severity=Severity.ERROR, code=code, path=path, meaning=meaning, remedy=remedy)


def warning(code: str, path: str, meaning: str, remedy: str) -> Finding:
    """Return a finding about a policy that accepts more than it should."""
    return Finding(severity=Severity.WARNING, code=code, path=path, meaning=meaning, remedy=remedy)


def note(code: str, path: str, meaning: str, remedy: str) -> Finding:
    """Return a remark."""
    return Finding(severity=Severity.NOTE, code=code, path=path, meaning=meaning, remedy=remedy)
