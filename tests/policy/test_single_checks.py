"""Checks on a policy that another one would hide."""

from __future__ import annotations

import pytest

from attestation.policy import parse_policy
from tests.refusals import refusal

_ZERO = "0" * 96
_TUPLE = f"""
[[reference_values]]
name = "one"
mrtd = "{_ZERO}"
rtmr0 = "{_ZERO}"
rtmr1 = "{_ZERO}"
rtmr2 = "{_ZERO}"
rtmr3 = "replay"
"""


def text(before: str) -> bytes:
    return f'schema = "appraisal-policy/1"\n{before}\n{_TUPLE}'.encode()


@pytest.mark.parametrize("end", ["until = 2027-01-01", "from = 1"])
def test_listed_machine_may_have_one_bound_alone(end: str) -> None:
    entry = f"{{ value = '{'00' * 16}', {end} }}"
    (listed,) = parse_policy(text(f"[platform]\nppid = [{entry}]")).platform.ppid or ()
    assert (listed.since is None) is end.startswith("until")


def test_status_that_intel_does_not_know_is_refused_even_for_a_stated_time() -> None:
    known = "tcb_status = [{ status = 'OutOfDate', until = 2027-01-01 }]"
    assert parse_policy(text(f"[tdx]\n{known}")).tdx.tcb_status[0].status == "OutOfDate"
    unknown = known.replace("OutOfDate", "Outdated")
    assert refusal(parse_policy, text(f"[tdx]\n{unknown}")) == "policy_value"


@pytest.mark.parametrize(
    "status",
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
    ],
)
def test_status_that_may_be_allowed_for_good_is_allowed_by_its_name(status: str) -> None:
    (rule,) = parse_policy(text(f"[tdx]\ntcb_status = ['{status}']")).tdx.tcb_status
    assert (rule.status, rule.until) == (status, None)


@pytest.mark.parametrize(
    "status",
    [
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    ],
)
def test_status_that_is_no_state_to_stay_in_is_allowed_until_a_date_alone(status: str) -> None:
    bare = f"[tdx]\ntcb_status = ['{status}']"
    assert refusal(parse_policy, text(bare)) == "policy_value"
    dated = f"[tdx]\ntcb_status = [{{ status = '{status}', until = 2027-01-01 }}]"
    assert [one.status for one in parse_policy(text(dated)).tdx.tcb_status] == [status]
