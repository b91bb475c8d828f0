"""Where checks write down how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.result import Check, Status, Verdict
from attestation.verifier.words import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.errors import AttestationError

_FAULTS = {fault.exit_code: fault for fault in Verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What contradicts what in a piece of evidence, before it is known which check that fails."""

    reason: str
    expected: str
    observed: str


def unequal(
    reason: str, expected: Mapping[str, object], seen: Mapping[str, object]
) -> Complaint | None:
    """Return the complaint that names the members of `expected` which differ from `seen`.

    Whole values are compared; bytes are then shown by their beginning.
    """
    wrong = [name for name, value in expected.items() if value != seen[name]]
    if not wrong:
        return None
    return Complaint(
        reason=reason,
        expected="; ".join(f"{name} {shown(expected[name])}" for name in wrong),
        observed="; ".join(f"{name} {shown(seen[name])}" for name in wrong),
    )


class Ledger:
    """The checks of one verification; `required` are the ids whose skip is not harmless."""

    def __init__(self, required: frozenset[str]) -> None:
        self.required = required
        self._checks: list[Check] = []

    @property
    def checks(self) -> tuple[Check, ...]:
        """Everything written so far, in order."""
        return tuple(self._checks)

    def about(self, subject: str) -> Page:
        """Return a page for one subject."""
        return Page(self, subject)

    def write(self, check: Check) -> None:
        """Add one finished check."""
        self._checks.append(check)

    def close(self, subject: str) -> None:
        """Write down every required check that nobody made: nothing is passed by absence."""
        seen = {check.id for check in self._checks}
        for id_ in sorted(self.required - seen):
            self.about(subject).skipped(id_, "there was nothing to make this required check on")


class Page:
    """What is written about one subject; `made` are the ids written on this very page.

    `flaws` are those of them that keep the subject from being accepted, in order, and `failed`
    those that were made and do not hold.
    """

    __slots__ = ("_ledger", "failed", "flaws", "made", "subject")

    def __init__(self, ledger: Ledger, subject: str) -> None:
        self._ledger = ledger
        self.subject = subject
        self.made: set[str] = set()
        self.flaws: list[str] = []
        self.failed: set[str] = set()

    def passed(self, id_: str, reason: str, *, expected: str = "", observed: str = "") -> None:
        """The check was made and holds."""
        self._write(id_, Status.PASS, reason, expected=expected, observed=observed)

    def info(self, id_: str, reason: str, *, observed: str = "") -> None:
        """There is something to say, and no rule that it could break."""
        self._write(id_, Status.INFO, reason, observed=observed)

    def skipped(self, id_: str, reason: str, *, hint: str = "") -> None:
        """The check could not be made; it counts if the floor or the policy requires it."""
        self._write(id_, Status.SKIP, reason, hint=hint)

    def lacking(self, id_: str, reason: str, *, hint: str = "") -> None:
        """The check could not be made on material that must not go unchecked."""
        self._put(
            Check(
                id=id_,
                subject=self.subject,
                status=Status.SKIP,
                required=True,
                reason=reason,
                hint=hint,
            )
        )

    def rejected(
        self, id_: str, reason: str, *, expected: str = "", observed: str = "", hint: str = ""
    ) -> None:
        """The evidence contradicts itself or its signatures."""
        self._fail(id_, Verdict.REJECTED, reason, expected, observed, hint)

    def contradicted(self, id_: str, complaint: Complaint) -> None:
        """Like `rejected`, for a complaint that was found elsewhere."""
        self.rejected(
            id_, complaint.reason, expected=complaint.expected, observed=complaint.observed
        )

    def not_accepted(
        self, id_: str, reason: str, *, expected: str = "", observed: str = "", hint: str = ""
    ) -> None:
        """The evidence holds, and the policy does not accept it."""
        self._fail(id_, Verdict.NOT_ACCEPTED, reason, expected, observed, hint)

    def refused(self, id_: str, error: AttestationError, *, hint: str = "") -> None:
        """A parser or verifier raised; its kind decides the verdict."""
        self._fail(
            id_,
            _FAULTS[error.exit_code],
            error.message,
            error.expected,
            error.observed,
            hint or error.hint,
        )

    def _fail(
        self, id_: str, fault: Verdict, reason: str, expected: str, observed: str, hint: str
    ) -> None:
        self.failed.add(id_)
        self._put(
            Check(
                id=id_,
                subject=self.subject,
                status=Status.FAIL,
                required=id_ in self._ledger.required,
                fault=fault,
                reason=reason,
                expected=expected,
                observed=observed,
                hint=hint,
            )
        )

    def _write(
        self,
        id_: str,
        status: Status,
        reason: str,
        *,
        expected: str = "",
        observed: str = "",
        hint: str = "",
    ) -> None:
        self._put(
            Check(
                id=id_,
                subject=self.subject,
                status=status,
                required=id_ in self._ledger.required,
                reason=reason,
                expected=expected,
                observed=observed,
                hint=hint,
            )
        )

    def _put(self, check: Check) -> None:
        self.made.add(check.id)
        if check.verdict is not Verdict.ACCEPTED:
            self.flaws.append(check.id)
        self._ledger.write(check)
