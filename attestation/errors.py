"""The exception tree of the verifier, by whose fault a failure is.

    AttestationError
    ├── MalformedError      the producer sent bytes that do not parse            exit 13
    ├── EvidenceError       the cryptography says no                             exit 10
    ├── PolicyError         the evidence is genuine, the policy says no          exit 11
    ├── IncompleteError     what was given does not suffice for the check        exit 12
    ├── UnavailableError    something that was needed could not be reached       exit 14
    └── UsageError          the caller asked for something that makes no sense   exit  2

Public functions of `attestation` let only these out.  Every message says what was
expected, what was seen and, where that helps, what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class AttestationError(Exception):
    """Base of every failure this package reports.

    `code` is a stable identifier a program may branch on; `expected`, `observed` and `hint`
    are for people.  None of them ever carries prompt, answer, key or salt.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        expected: str = "",
        observed: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.expected = expected
        self.observed = observed
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.observed:
            parts.append(f"saw {self.observed}")
        if self.hint:
            parts.append(self.hint)
        return "; ".join(parts)


class MalformedError(AttestationError):
    """The bytes are not what their format demands."""

    exit_code = 13


class EvidenceError(AttestationError):
    """A signature, hash or binding does not hold."""

    exit_code = 10


class PolicyError(AttestationError):
    """Nothing about the evidence is wrong, but the appraisal policy does not accept it."""

    exit_code = 11


class IncompleteError(AttestationError):
    """Nothing is wrong with what was looked at, but what was given does not suffice to check it."""

    exit_code = 12


class UnavailableError(AttestationError):
    """A network, store or device that was needed did not answer."""

    exit_code = 14


class UsageError(AttestationError):
    """The caller's arguments contradict each other or name nothing."""

    exit_code = 2
