"""Several sets of genuine TCB data are in force at one time, for months (found by Fortanix and
others): who chooses among them chooses the verdict.

Lesson: the verifier chooses.  A policy's lowest evaluation number and greatest age bind, the
lower number of the two documents counts, and the verifier's own set takes the place of the file's.
"""

from __future__ import annotations

import pytest

from attestation.bundle import with_endorsements
from attestation.result import Verdict
from gateway.attester.simulated.facts import DAY, Endorsements
from tests.support.bundles import NOW, Gateway, failed

PLATFORM = Gateway().machine


def under(**endorsements: int) -> Gateway:
    made = Gateway(platform=PLATFORM.but(endorsements=Endorsements(**endorsements)))  # type: ignore[arg-type]
    made.plain()
    return made


@pytest.mark.parametrize("part", ["evaluation_number", "qe_evaluation_number"])
def test_evaluation_number_below_the_lowest_accepted_is_not_accepted(part: str) -> None:
    made = under(**{part: 19})
    rule = "min_tcb_evaluation_number = 20"
    result = made.verify(policy=made.policy(tdx=rule))
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"COLLATERAL-FRESH"}
    current = under()
    assert current.verify(policy=current.policy(tdx=rule)).verdict is Verdict.SIMULATED


@pytest.mark.parametrize("part", ["tcb_issued", "qe_issued", "crl_issued"])
def test_set_with_one_part_older_than_the_policy_allows_is_not_accepted(part: str) -> None:
    made = under(**{part: -8 * DAY})
    policy = made.policy(more="[endorsements]\nmax_age_days = 7")
    result = made.verify(policy=policy)
    assert failed(result) == {"COLLATERAL-FRESH"}
    assert made.verify().verdict is Verdict.SIMULATED


@pytest.mark.parametrize("part", ["tcb", "qe", "crl"])
def test_endorsements_out_of_date_at_the_instant_of_verification_are_not_accepted(
    part: str,
) -> None:
    made = under(**{f"{part}_issued": -2, f"{part}_expires": 30})
    assert made.verify(at=NOW + 29).verdict is Verdict.SIMULATED
    result = made.verify(at=NOW + 31)
    assert result.verdict is Verdict.NOT_ACCEPTED
    assert failed(result) == {"COLLATERAL-FRESH"}


def test_own_endorsements_take_the_place_of_those_in_the_file() -> None:
    made = under(evaluation_number=19)
    policy = made.policy(tdx="min_tcb_evaluation_number = 20")
    bundle = with_endorsements(made.bundle(), [PLATFORM.collateral()])
    assert made.verify(policy=policy).verdict is Verdict.NOT_ACCEPTED
    assert made.verify(policy=policy, bundle=bundle).verdict is Verdict.SIMULATED


def test_receipts_cannot_move_the_instant_of_verification() -> None:
    made = under(tcb_expires=30)
    made.plain(context={"issued_at": NOW + 1})
    assert failed(made.verify(at=NOW + 31)) == {"COLLATERAL-FRESH"}
