from __future__ import annotations

import itertools
from typing import Any

import pytest

from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from attestation.result import PRECEDENCE, AttestationResult, Check, Status, Verdict, worst

EXIT_CODES = {
    "ACCEPTED": 0,
    "REJECTED": 10,
    "NOT-ACCEPTED": 11,
    "INCOMPLETE": 12,
    "MALFORMED": 13,
    "UNAVAILABLE": 14,
    "SIMULATED": 15,
}


def check(status: Status = Status.PASS, **changes: Any) -> Check:
    members: dict[str, Any] = {"id": "KEYSET", "subject": "boot", "required": False}
    return Check(status=status, **members | changes)


def failing(fault: Verdict) -> Check:
    return check(Status.FAIL, fault=fault, reason="it broke", expected="a", observed="b", hint="c")


def result(*checks: Check, domains: set[str] | None = None) -> AttestationResult:
    return AttestationResult(
        checks=checks,
        at=0,
        policy_digest=None,
        trust_domains=frozenset({"intel"} if domains is None else domains),
        not_proved=(),
    )


def test_every_verdict_has_its_documented_exit_code() -> None:
    assert {str(verdict): verdict.exit_code for verdict in Verdict} == EXIT_CODES


def test_precedence_is_the_documented_one() -> None:
    assert [verdict.exit_code for verdict in PRECEDENCE] == [13, 10, 11, 14, 12, 15, 0]


@pytest.mark.parametrize("pair", list(itertools.combinations(PRECEDENCE, 2)))
def test_the_worse_of_two_verdicts_wins(pair: tuple[Verdict, Verdict]) -> None:
    assert worst(pair) is worst(pair[::-1]) is pair[0]


def test_nothing_at_all_has_no_worse_verdict_than_accepted() -> None:
    assert worst([]) is Verdict.ACCEPTED


def test_passing_checks_on_intel_evidence_are_accepted() -> None:
    assert result(check()).verdict is Verdict.ACCEPTED
    assert result(check()).exit_code == 0


@pytest.mark.parametrize("domains", [{"simulated"}, {"intel", "simulated"}, {"other"}])
def test_evidence_that_is_not_all_from_intel_is_never_accepted(domains: set[str]) -> None:
    assert result(check(), domains=domains).verdict is Verdict.SIMULATED


def test_nothing_proved_is_incomplete() -> None:
    assert result().verdict is Verdict.INCOMPLETE
    assert result(check(Status.INFO), check(Status.SKIP)).verdict is Verdict.INCOMPLETE
    assert result(check(), domains=set()).verdict is Verdict.INCOMPLETE


def test_skipped_check_counts_only_if_required() -> None:
    assert result(check(), check(Status.SKIP)).verdict is Verdict.ACCEPTED
    skipped = check(Status.SKIP, required=True)
    assert result(check(), skipped).verdict is Verdict.INCOMPLETE
    assert result(check(), check(Status.INFO, required=True)).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("fault", [v for v in Verdict if v is not Verdict.ACCEPTED])
def test_failure_asks_for_the_verdict_of_its_fault(fault: Verdict) -> None:
    assert result(check(), failing(fault)).verdict is fault


def test_failure_outweighs_a_missing_check() -> None:
    skipped = check(Status.SKIP, required=True)
    assert result(skipped, failing(Verdict.NOT_ACCEPTED)).verdict is Verdict.NOT_ACCEPTED


def test_result_is_no_truth_value() -> None:
    with pytest.raises(UsageError) as caught:
        bool(result(check()))
    assert "require_accepted" in caught.value.hint


def test_accepted_result_passes_the_gate() -> None:
    result(check()).require_accepted()
    result(check()).require_accepted_or_unsafe_simulated()


def test_simulated_result_passes_only_the_ugly_gate() -> None:
    simulated = result(check(), domains={"simulated"})
    with pytest.raises(PolicyError) as caught:
        simulated.require_accepted()
    assert caught.value.code == "SIMULATED"
    simulated.require_accepted_or_unsafe_simulated()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Verdict.MALFORMED, MalformedError),
        (Verdict.REJECTED, EvidenceError),
        (Verdict.NOT_ACCEPTED, PolicyError),
        (Verdict.UNAVAILABLE, UnavailableError),
    ],
)
def test_refusal_is_raised_as_the_error_of_its_kind(
    fault: Verdict, kind: type[AttestationError]
) -> None:
    for gate in ("require_accepted", "require_accepted_or_unsafe_simulated"):
        with pytest.raises(kind) as caught:
            getattr(result(check(), failing(fault)), gate)()
        assert caught.value.code == str(fault)
        assert "KEYSET (boot): it broke" in caught.value.message
        assert (caught.value.expected, caught.value.observed, caught.value.hint) == ("a", "b", "c")


def test_incomplete_is_refused_naming_what_is_missing() -> None:
    skipped = check(Status.SKIP, required=True, id="EVENT-LOG", reason="no log")
    with pytest.raises(PolicyError, match=r"EVENT-LOG \(boot\): no log"):
        result(check(), skipped).require_accepted()
    with pytest.raises(PolicyError, match="INCOMPLETE"):
        result().require_accepted_or_unsafe_simulated()


def test_check_knows_its_title_and_its_rule() -> None:
    assert check().title == "The boot statement commits to this keyset"
    assert check().spec == "statements.md#keyset"
