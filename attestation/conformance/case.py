"""One case of a topic, and the comparison of what was expected with what the product did."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, MalformedError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.encoding.strict_json import JsonValue

DEVIATIONS = {
    "duplicate_member": (
        "RFC 8259 leaves duplicate members to the parser; this one always refuses them. "
        "Only where the input really names a member twice in one object."
    ),
}


def no_deviation() -> str | None:
    """Say that no documented deviation applies."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input, how to run the product over it, and how to compare the outcome.

    `run` returns what the product did, as a JSON value, without having seen `expected`.
    `agrees(expected, got)` compares.  Where they disagree, `deviation` may name an entry of
    `DEVIATIONS` whose precondition it has checked on the input itself.
    """

    name: str
    expected: JsonValue
    run: Callable[[], JsonValue]
    agrees: Callable[[JsonValue, JsonValue], bool] = operator.eq
    deviation: Callable[[], str | None] = no_deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is reported for one case."""

    got: JsonValue
    ok: bool


def accept_or_reject(action: Callable[[], object]) -> str:
    """Return "accept" if `action` returns and "reject" if the product refuses the input.

    Only `MalformedError`, `EvidenceError` and `PolicyError` are refusals; anything else passes
    through and becomes a crash.
    """
    try:
        action()
    except (MalformedError, EvidenceError, PolicyError):
        return "reject"
    return "accept"


def equal_or_either(expected: JsonValue, got: JsonValue) -> bool:
    """Compare verdicts; "either" agrees with any that was reached."""
    return expected in ("either", got)


def judge(case: Case) -> Judgement:
    """Run one case.  An exception of any kind is a crash and never ok."""
    try:
        got = case.run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        # A panic inside a compiled dependency does not even derive from Exception, and a
        # product that exits or raises anything of its own has failed the case as well.
        return Judgement(got=f"crash: {type(error).__name__}", ok=False)
    if case.agrees(case.expected, got):
        return Judgement(got=got, ok=True)
    deviation = case.deviation()
    if deviation in DEVIATIONS:
        return Judgement(got=f"deviation: {deviation}", ok=True)
    return Judgement(got=got, ok=False)
