"""go-tdx-guest 57; audit of dstack (finding 2 of January 2026): the TCB status was reported, or
not even read, and never decided anything.

Lesson: a status is a verdict, not a remark.  Only what the policy lists passes, and what is
listed with an end passes until then.
"""

from __future__ import annotations

import pytest

from attestation.result import Verdict
from gateway.attester.simulated.facts import Endorsements, SvnLevel, TcbLevel
from tests.support.bundles import NOW, Gateway, failed

PLATFORM = Gateway().machine
STATUSES = [
    "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded",
]  # fmt: skip


def under(**endorsements: object) -> Gateway:
    made = Gateway(platform=PLATFORM.but(endorsements=Endorsements(**endorsements)))  # type: ignore[arg-type]
    made.plain()
    return made


@pytest.mark.parametrize("status", STATUSES)
def test_status_that_no_policy_lists_is_not_accepted(status: str) -> None:
    result = under(levels=(TcbLevel(status=status),)).verify()
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TCB-STATUS"}


def test_revoked_platform_is_refused_whatever_a_policy_says() -> None:
    made = under(levels=(TcbLevel(status="Revoked"),))
    policy = made.policy(tdx='tcb_status = ["UpToDate", "SWHardeningNeeded"]')
    assert made.verify(policy=policy).verdict in (Verdict.REJECTED, Verdict.NOT_ACCEPTED)


@pytest.mark.parametrize("part", ["module_levels", "qe_levels"])
def test_status_of_module_and_quoting_enclave_counts_as_much(part: str) -> None:
    result = under(**{part: (SvnLevel(status="OutOfDate"),)}).verify()
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TCB-STATUS"}


@pytest.mark.parametrize(("until", "verdict"), [(NOW + 61, 15), (NOW + 60, 11), (NOW, 11)])
def test_listed_status_passes_until_its_end(until: int, verdict: int) -> None:
    made = under(levels=(TcbLevel(status="OutOfDate"),))
    rule = f'tcb_status = ["UpToDate", {{ status = "OutOfDate", until = {until} }}]'
    assert made.verify(policy=made.policy(tdx=rule)).exit_code == verdict


def test_open_advisory_that_no_policy_lists_is_not_accepted() -> None:
    result = under(levels=(TcbLevel(advisories=("INTEL-SA-00001",)),)).verify()
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TCB-ADVISORIES"}
