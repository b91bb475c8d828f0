"""What a verification says: checks, one verdict, and what was not proved.

A result is not a truth value: `if verify(...)` raises.  The gate is `require_accepted`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from attestation.checks import CHECKS
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.encoding.digest import Digest
    from attestation.tdx.endorsed import Endorsed


class Verdict(StrEnum):
    """The conclusion of a verification; each has its own exit code."""

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    NOT_ACCEPTED = "NOT-ACCEPTED"
    INCOMPLETE = "INCOMPLETE"
    MALFORMED = "MALFORMED"
    UNAVAILABLE = "UNAVAILABLE"
    SIMULATED = "SIMULATED"

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Verdict.ACCEPTED: 0,
    Verdict.REJECTED: 10,
    Verdict.NOT_ACCEPTED: 11,
    Verdict.INCOMPLETE: 12,
    Verdict.MALFORMED: 13,
    Verdict.UNAVAILABLE: 14,
    Verdict.SIMULATED: 15,
}

PRECEDENCE = (
    Verdict.MALFORMED,
    Verdict.REJECTED,
    Verdict.NOT_ACCEPTED,
    Verdict.UNAVAILABLE,
    Verdict.INCOMPLETE,
    Verdict.SIMULATED,
    Verdict.ACCEPTED,
)
"""From the worst verdict to the best: the first that applies is the verdict."""


class Status(StrEnum):
    """How one check ended."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    FAIL = "fail"
    SKIP = "skip"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check on one subject.

    `fault` is the verdict a failure asks for and None otherwise.  `required` says that a skip
    makes the whole result INCOMPLETE.  `expected`, `observed`, `reason` and `hint` are for
    people and never carry prompt, answer, key or salt.
    """

    id: str
    subject: str
    status: Status
    required: bool
    fault: Verdict | None = None
    expected: str = ""
    observed: str = ""
    reason: str = ""
    hint: str = ""

    @property
    def title(self) -> str:
        """What the check establishes, in one line."""
        return CHECKS[self.id].title

    @property
    def spec(self) -> str:
        """Where the rule is written."""
        return CHECKS[self.id].spec

    @property
    def verdict(self) -> Verdict:
        """The best verdict that this check alone still allows."""
        if self.fault is not None:
            return self.fault
        if self.status is Status.SKIP and self.required:
            return Verdict.INCOMPLETE
        return Verdict.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """The outcome of one verification at the instant `at` (Unix seconds).

    `policy_digest` is the SHA-256 of the policy file, None without one, and `policy_version` what
    its author calls it; `policy_signers` are the keys (C2SP vkeys) that signed it, empty where no
    signature was checked.  `trust_domains` names what genuine quotes rest on, "intel" or
    "simulated"; "simulated" also stands for quotes that were not found genuine under another root
    than Intel's.  `facts` are plain values worth showing; `not_proved` are sentences about what
    stays open even where all checks pass.  `endorsed` tells how new the endorsements were that
    stand behind genuine quotes.  `now` is the result at the present, where `at` is a stated past
    instant.
    """

    checks: tuple[Check, ...]
    at: int
    policy_digest: Digest | None
    trust_domains: frozenset[str]
    not_proved: tuple[str, ...]
    facts: dict[str, object] = field(default_factory=dict)
    policy_version: str | None = None
    policy_signers: tuple[str, ...] = ()
    endorsed: tuple[Endorsed, ...] = ()
    now: AttestationResult | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of what the checks ask for; simulated evidence is never ACCEPTED."""
        verdict = worst(check.verdict for check in self.checks)
        if verdict is not Verdict.ACCEPTED:
            return verdict
        # Nothing was found wrong, which is not enough: something must have been found right.
        if not self.trust_domains or all(c.status is not Status.PASS for c in self.checks):
            return Verdict.INCOMPLETE
        return Verdict.ACCEPTED if self.trust_domains == {"intel"} else Verdict.SIMULATED

    @property
    def exit_code(self) -> int:
        """The exit code that stands for the verdict."""
        return self.verdict.exit_code

    def require_accepted(self) -> None:
        """Return only if the verdict is ACCEPTED; otherwise raise the error of its kind.

        MALFORMED raises `MalformedError`, REJECTED `EvidenceError`, UNAVAILABLE
        `UnavailableError`, every other verdict `PolicyError`; `code` is the verdict.
        """
        if self.verdict is not Verdict.ACCEPTED:
            self._refuse()

    def require_accepted_or_unsafe_simulated(self) -> None:
        """Like `require_accepted`, but simulated evidence passes: it proves nothing about
        hardware, and is for tests and demonstrations only.
        """
        if self.verdict not in (Verdict.ACCEPTED, Verdict.SIMULATED):
            self._refuse()

    def __bool__(self) -> NoReturn:
        raise UsageError(
            "an attestation result is not a truth value",
            code="truth_value",
            hint="call require_accepted(), or look at .verdict",
        )

    def _refuse(self) -> NoReturn:
        verdict = self.verdict
        kind = _ERRORS.get(verdict, PolicyError)
        decisive = [check for check in self.checks if check.verdict is verdict]
        if not decisive:
            raise kind(f"the verdict is {verdict}", code=str(verdict))
        first = decisive[0]
        raise kind(
            f"the verdict is {verdict}: {first.id} ({first.subject}): {first.reason}",
            code=str(verdict),
            expected=first.expected,
            observed=first.observed,
            hint=first.hint,
        )


_ERRORS: dict[Verdict, type[AttestationError]] = {
    Verdict.MALFORMED: MalformedError,
    Verdict.REJECTED: EvidenceError,
    Verdict.UNAVAILABLE: UnavailableError,
}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the first of `PRECEDENCE` among `verdicts`, ACCEPTED if there are none."""
    seen = frozenset(verdicts)
    return next((verdict for verdict in PRECEDENCE if verdict in seen), Verdict.ACCEPTED)
