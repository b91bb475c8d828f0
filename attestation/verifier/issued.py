"""Evidence whose endorsements have run out: was it genuine when it was made?

Only an information: the instant is the statement's own, by a clock that the host controls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.instants import instant, is_instant
from attestation.errors import EvidenceError
from attestation.tdx.dcap import verify_quote
from attestation.verifier.quotes import anchor_for

if TYPE_CHECKING:
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.quote import Quote
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Page

_ID = "COLLATERAL-FRESH"


def say_when_issued(
    quote: Quote, collateral: Collateral | None, claimed: int, grounds: Grounds, page: Page
) -> None:
    """Say whether a quote that fails for time alone was genuine at `claimed` (Unix seconds).

    The verdict does not change: that takes `--at`, by which the verifier says that they held the
    evidence then, or a witness.
    """
    if collateral is None or _ID not in page.flaws or not is_instant(claimed):
        return
    try:
        verify_quote(quote, collateral, claimed, anchor_for(quote, grounds.anchors))
    except EvidenceError:
        return
    page.info(
        _ID,
        f"genuine when issued, if the guest's clock was right: at {instant(claimed)} every "
        "signature held and the endorsements were in date",
    )
