"""TCB-STATUS beyond the status: date of the TCB level, and the components of TEE_TCB_SVN."""

from __future__ import annotations

from typing import Any, cast

import pytest

from attestation.policy import NO_POLICY
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import Endorsements, Machine, SvnLevel, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed, the_check

PLATFORM = SimulatedPlatform(now=NOW, seed=b"tcb")


def gateway(**facts: Any) -> Gateway:
    made = Gateway(platform=PLATFORM.but(**facts))
    made.plain()
    return made


def dated(platform: str, module: str = "2026-01-01", qe: str = "2026-01-01") -> Gateway:
    midnight = "T00:00:00Z"
    return gateway(
        endorsements=Endorsements(
            levels=(TcbLevel(date=platform + midnight),),
            module_levels=(SvnLevel(date=module + midnight),),
            qe_levels=(SvnLevel(date=qe + midnight),),
        )
    )


def judged(made: Gateway, rule: str) -> AttestationResult:
    result = made.verify(policy=made.policy(tdx=rule))
    assert failed(result) <= {"TCB-STATUS"}
    return result


@pytest.mark.parametrize(
    ("rule", "made", "verdict"),
    [
        ("2025-05-14", dated("2025-05-14"), Verdict.SIMULATED),
        ("2025-05-14", dated("2025-05-13"), Verdict.NOT_ACCEPTED),
        ("2025-05-14T00:00:01Z", dated("2025-05-14"), Verdict.NOT_ACCEPTED),
        ("2025-05-14", dated("2025-06-01", module="2025-05-13"), Verdict.NOT_ACCEPTED),
        ("2025-05-14", dated("2025-06-01", module="2025-05-14"), Verdict.SIMULATED),
        ("2025-05-14", dated("2025-06-01", qe="2020-01-01"), Verdict.SIMULATED),
        ("0", dated("2018-01-01"), Verdict.SIMULATED),
    ],
)
def test_level_must_not_be_of_an_earlier_date(rule: str, made: Gateway, verdict: Verdict) -> None:
    assert judged(made, f"min_tcb_date = {rule}").verdict is verdict


def test_refusal_for_the_date_says_both_dates() -> None:
    check = the_check(judged(dated("2025-05-13"), "min_tcb_date = 2025-05-14"), "TCB-STATUS")
    assert "earlier date" in check.reason
    assert check.expected == "TCB date 2025-05-14T00:00:00Z or later"
    assert check.observed == "2025-05-13T00:00:00Z, UpToDate"
    assert "min_tcb_date" in check.hint


HEALTHY = gateway()
SVN = Machine().tee_tcb_svn


@pytest.mark.parametrize("place", range(16))
def test_every_component_of_the_svn_is_compared_by_itself(place: int) -> None:
    same = f'min_tee_tcb_svn = "{SVN.hex()}"'
    assert judged(HEALTHY, same).verdict is Verdict.SIMULATED
    more = bytes(value + (number == place) for number, value in enumerate(SVN))
    result = judged(HEALTHY, f'min_tee_tcb_svn = "{more.hex()}"')
    assert result.verdict is Verdict.NOT_ACCEPTED
    check = the_check(result, "TCB-STATUS")
    assert check.reason == f"TEE_TCB_SVN is below the policy's in component {place}"
    assert more.hex() in check.expected
    assert check.observed == SVN.hex()
    assert "min_tee_tcb_svn" in check.hint


def test_higher_component_does_not_make_up_for_a_lower_one() -> None:
    least = bytes((SVN[0] + 1, 0, SVN[2] + 1)) + bytes(13)
    result = judged(HEALTHY, f'min_tee_tcb_svn = "{least.hex()}"')
    assert "in component 0, 2" in the_check(result, "TCB-STATUS").reason


def test_bounds_hold_beside_an_accepted_status_and_do_not_replace_it() -> None:
    late = gateway(endorsements=Endorsements(levels=(TcbLevel(status="SWHardeningNeeded"),)))
    listed = 'tcb_status = ["SWHardeningNeeded"]\n'
    bounds = f'min_tcb_date = 2025-05-14\nmin_tee_tcb_svn = "{SVN.hex()}"'
    assert judged(late, listed + bounds).verdict is Verdict.SIMULATED
    assert "SWHardeningNeeded" in the_check(judged(late, bounds), "TCB-STATUS").reason
    assert judged(late, f"{listed}min_tcb_date = 2025-05-15").verdict is Verdict.NOT_ACCEPTED


def test_date_and_svn_are_shown_and_are_facts() -> None:
    result = HEALTHY.verify()
    check = the_check(result, "TCB-STATUS")
    assert check.status is Status.PASS
    assert check.observed == f"TCB date 2025-05-14T00:00:00Z, TEE_TCB_SVN {SVN.hex()}"
    (quote,) = cast("list[dict[str, object]]", result.facts["quotes"])
    assert quote["tee_tcb_svn"] == SVN.hex()
    assert NO_POLICY.tdx.min_tcb_date is None
