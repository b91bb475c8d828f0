"""How one case is judged: by what the product did, never by what was expected."""

from __future__ import annotations

import pytest

from attestation.conformance.case import (
    DEVIATIONS,
    Case,
    Judgement,
    accept_or_reject,
    equal_or_either,
    judge,
    no_deviation,
)
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)


def raising(error: BaseException) -> str:
    raise error


def case(expected: object = "accept", **changes: object) -> Case:
    fields = {"name": "n", "expected": expected, "run": lambda: "accept"} | changes
    return Case(**fields)  # type: ignore[arg-type]


def test_agreement_is_ok_and_disagreement_is_not() -> None:
    assert judge(case("accept")) == Judgement(got="accept", ok=True)
    assert judge(case("reject")) == Judgement(got="accept", ok=False)
    assert judge(case({"a": 1}, run=lambda: {"a": 1})).ok


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RecursionError(),
        SystemExit(0),
        GeneratorExit(),
        MemoryError(),
        MalformedError("x"),
    ],
)
@pytest.mark.parametrize("expected", ["accept", "reject", "either", "crash: ValueError"])
def test_exception_is_never_ok(error: BaseException, expected: str) -> None:
    judgement = judge(case(expected, run=lambda: raising(error), agrees=lambda *_: True))
    assert judgement == Judgement(got=f"crash: {type(error).__name__}", ok=False)


def test_interrupting_the_run_is_not_a_crash_of_the_case() -> None:
    with pytest.raises(KeyboardInterrupt):
        judge(case(run=lambda: raising(KeyboardInterrupt())))


def test_documented_deviation_is_ok_and_named() -> None:
    judged = judge(case("reject", deviation=lambda: "duplicate_member"))
    assert judged == Judgement(got="deviation: duplicate_member", ok=True)


def test_deviation_outside_the_list_is_not_ok() -> None:
    assert "made_up" not in DEVIATIONS
    assert judge(case("reject", deviation=lambda: "made_up")) == Judgement(got="accept", ok=False)
    assert no_deviation() is None


def test_deviation_is_not_asked_for_where_the_verdicts_agree() -> None:
    assert judge(case(deviation=lambda: raising(ValueError()))).ok


@pytest.mark.parametrize("error", [MalformedError, EvidenceError, PolicyError])
def test_refusal_by_the_product_is_a_rejection(error: type[AttestationError]) -> None:
    assert accept_or_reject(lambda: raising(error("no"))) == "reject"


@pytest.mark.parametrize("error", [UsageError, UnavailableError])
def test_wrong_use_of_the_product_is_no_rejection(error: type[AttestationError]) -> None:
    with pytest.raises(error):
        accept_or_reject(lambda: raising(error("no")))


def test_returning_is_accepting_whatever_is_returned() -> None:
    assert accept_or_reject(lambda: None) == "accept"
    assert accept_or_reject(lambda: False) == "accept"


def test_either_agrees_with_both_verdicts() -> None:
    assert equal_or_either("either", "accept")
    assert equal_or_either("either", "reject")
    assert equal_or_either("accept", "accept")
    assert not equal_or_either("accept", "reject")
    assert not equal_or_either("reject", "accept")
