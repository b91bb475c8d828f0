"""COLLATERAL-FRESH: in date, not too old, and no earlier judgement of Intel's than was known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.encoding.instants import instant

if TYPE_CHECKING:
    from attestation.tdx.dcap import GenuineQuote
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Page

_ID = "COLLATERAL-FRESH"
_DAY = 86_400
_FETCH = "fetch current endorsements"


def check_endorsements(genuine: GenuineQuote, grounds: Grounds, page: Page) -> None:
    """COLLATERAL-FRESH for a genuine quote, whose endorsements are in date.

    1. their evaluation number is not below the policy's
    2. nor below the one remembered for this kind of platform under this root
    3. their oldest part is not older than the policy allows
    """
    policy, number = grounds.policy, genuine.tcb_evaluation_number
    holds, age = genuine.holds, grounds.at - genuine.collateral_issued
    if number < policy.tdx.min_tcb_evaluation_number:
        page.not_accepted(
            _ID,
            "the endorsements are of an earlier TCB evaluation than the policy asks for",
            expected=f"evaluation number {policy.tdx.min_tcb_evaluation_number} or higher",
            observed=f"{number}",
            hint=_FETCH,
        )
    elif _rolled_back(genuine, grounds, page):
        return
    elif policy.max_age_days is not None and age > policy.max_age_days * _DAY:
        page.not_accepted(
            _ID,
            "the endorsements are older than the policy allows",
            expected=f"at most {counted(policy.max_age_days, 'day')}",
            observed=f"{counted(age // _DAY, 'day')} at {instant(grounds.at)}",
            hint=f"{_FETCH}, or verify at the time the evidence was held (--at)",
        )
    else:
        page.passed(
            _ID,
            f"in date at {instant(grounds.at)}",
            observed=f"{instant(holds.issued)} to {instant(holds.until)} (ends first: "
            f"{holds.name}), evaluation number {number}",
        )


def _rolled_back(genuine: GenuineQuote, grounds: Grounds, page: Page) -> bool:
    """Compare with what was seen before, and write down the part that has gone back."""
    seen = genuine.endorsed
    known = grounds.high_water.of(seen) if grounds.high_water else None
    if known is None:
        return False
    for (name, part), (_, before) in zip(seen.parts, known.parts, strict=True):
        if part.number < before.number:
            page.not_accepted(
                _ID,
                f"the {name} is of an earlier TCB evaluation than one seen before: endorsements "
                "were rolled back",
                expected=f"evaluation number {before.number} or higher, as remembered for FMSPC "
                f"{seen.fmspc.hex()} (newest issue seen: {instant(before.issued)})",
                observed=f"{part.number}, issued {instant(part.issued)}",
                hint=f"{_FETCH}; old evidence by old endorsements is judged without --high-water",
            )
            return True
    return False
