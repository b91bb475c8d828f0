"""Quotes that were found genuine, remembered from one file to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.tdx.dcap import verify_quote

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.dcap import GenuineQuote
    from attestation.tdx.quote import Quote


@dataclass(slots=True, kw_only=True)
class QuoteMemory:
    """At most `most` genuine quotes, the oldest forgotten first.

    Remembered is that every byte of one quote was genuine by every byte of one set of
    endorsements, at one instant, under one root; refusals are not.  What the policy says of a
    quote, and everything else about a boot or an epoch, is judged anew for each file.
    """

    most: int = 1024
    _known: dict[tuple[Digest, Digest, int, bytes], GenuineQuote] = field(default_factory=dict)

    def verify(self, quote: Quote, collateral: Collateral, at: int, anchor: Anchor) -> GenuineQuote:
        """Return what `verify_quote` does, or raise what it raises."""
        key = (Digest.of(quote.raw), collateral.digest, at, anchor.root_der)
        known = self._known.get(key)
        if known is None:
            known = verify_quote(quote, collateral, at, anchor)
            self._known[key] = known
            if len(self._known) > self.most:
                del self._known[next(iter(self._known))]
        return known
