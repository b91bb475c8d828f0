"""zkSecurity finding 06 on a TDX verifier, go-tdx-guest 81: the debug bit was checked incompletely,
late, or only on request.

Lesson: TDATTRIBUTES is an allow-list of 64 bits.  Nothing has to be asked for, and no option
turns the check off.
"""

from __future__ import annotations

import pytest

from attestation.result import Verdict
from gateway.attester.simulated.facts import SEPT_VE_DISABLE, Domain
from tests.support.bundles import Gateway, failed

PLATFORM = Gateway().machine
POLICY = Gateway().policy()


def quoted(attributes: int) -> Gateway:
    made = Gateway(platform=PLATFORM.but(domain=Domain(td_attributes=attributes)))
    debug = "enabled" if attributes & 1 else "disabled"
    made.plain(context={"debug": debug})
    return made


def test_plain_domain_is_accepted() -> None:
    assert quoted(SEPT_VE_DISABLE).verify(policy=POLICY).verdict is Verdict.SIMULATED


@pytest.mark.parametrize("bit", [bit for bit in range(64) if 1 << bit != SEPT_VE_DISABLE])
def test_any_other_attribute_is_not_accepted(bit: int) -> None:
    result = quoted(SEPT_VE_DISABLE | 1 << bit).verify(policy=POLICY)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"TD-ATTRIBUTES"}


def test_no_policy_makes_a_debug_domain_acceptable() -> None:
    debugged = quoted(SEPT_VE_DISABLE | 1)
    for rule in ('"0x10000001"', '{ value = "0x10000000", mask = "0x10000000" }'):
        policy = debugged.policy(tdx=f"attributes = {rule}")
        assert debugged.verify(policy=policy).verdict is Verdict.NOT_ACCEPTED


@pytest.mark.parametrize("claimed", ["enabled", "disabled"])
def test_receipt_that_claims_another_debug_state_than_the_quote_is_refused(claimed: str) -> None:
    made = Gateway()
    made.plain(context={"debug": claimed})
    expected = {"enabled": {"RECEIPT-BINDING"}, "disabled": set()}
    assert failed(made.verify()) == expected[claimed]
