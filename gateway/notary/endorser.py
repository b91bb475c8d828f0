"""Which endorsements a boot's quotes are shown with, and when newer ones take their place.

A boot may live longer than what Intel signed about its platform.  The operator fetches newer sets
into a folder (`attested endorsements fetch`, by a timer); the notary only reads that folder.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from attestation.errors import AttestationError, EvidenceError, MalformedError, UnavailableError
from attestation.tdx.anchor import INTEL_ANCHOR
from attestation.tdx.dcap import POLICY_CODES, verify_quote
from attestation.tdx.endorsements import (
    in_order,
    parse_endorsements,
    platform_of,
    verify_endorsements,
)

if TYPE_CHECKING:
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.endorsements import Endorsements
    from attestation.tdx.quote import Quote
    from gateway.endorsements.store import EndorsementStore
    from gateway.notary.parts import NotaryParts

_TIMELY = frozenset({"expired", "not_yet_valid"})
_JUDGEMENTS = (POLICY_CODES - _TIMELY) | {"revoked"}


class Endorser:
    """Chooses for one boot quote; `choose` blocks, and one caller at a time may be in it.

    A set fits if it is genuine under the platform's root, in date, made for the quote's FMSPC,
    PCE and CA, and can be held against the quote.  What it then says of the platform (revoked,
    debug, no TCB level) is no reason to show an older one: it is reported, and auditors see it.
    """

    def __init__(self, parts: NotaryParts, quote: Quote) -> None:
        self._parts = parts
        self._quote = quote
        self._anchor = parts.provider.anchor() or INTEL_ANCHOR
        self._known: dict[str, Endorsements | None] = {}
        self._refused: set[str] = set()
        self._said = ""
        self.chosen = _given(parts)
        self._until = _end_of(self.chosen)
        self._from_store = False

    def seconds_left(self) -> float:
        """Return the seconds until the chosen set's first part ends; NaN if none is chosen."""
        return self._until - self._parts.clock.wall()

    def choose(self) -> Collateral | None:
        """Look into the store, and return what is to be shown from now on.

        1. the sets in the store, each read once, for this platform
        2. of those in date, the newest that fits
        3. if none fits, what was chosen before, even if it is out of date by now: an auditor may
           judge by an earlier instant
        4. at first: the setting's file, else what the provider has

        Never raises: a store that cannot be read is reported, and nothing changes.
        """
        store = self._parts.endorsements
        if store is not None:
            try:
                self._look(store)
            except Exception as error:  # noqa: BLE001 - a fault here must not end the boot
                self._say_absent(_code(error))
        return self.chosen

    def _look(self, store: EndorsementStore) -> None:
        names = store.names()
        for name in names:
            if name not in self._known:
                self._read(store, name)
        present = [one for name in names if (one := self._known.get(name)) is not None]
        now = int(self._parts.clock.wall())
        for one in in_order(present, now):
            if one.whole.issued <= now <= one.whole.until and self._fits(one, now):
                self._take(one)
                return
        self._say_absent("no_set" if not present else "out_of_date")

    def _read(self, store: EndorsementStore, name: str) -> None:
        try:
            one = store.load(name)
        except MalformedError as error:
            self._known[name] = None
            self._say_refused(name, error.code)
        except UnavailableError as error:
            # It may be readable the next time; it is said once all the same.
            self._say_refused(name, error.code)
        else:
            self._known[name] = one if one.is_for(platform_of(self._quote)) else None

    def _fits(self, one: Endorsements, now: int) -> bool:
        name = one.collateral.digest.hex
        if self.chosen is not None and self.chosen.digest.hex == name:
            return True
        if name in self._refused:
            return False
        try:
            verify_endorsements(one.collateral, self._anchor, now)
            judgement = self._judgement(one.collateral, now)
        except (EvidenceError, MalformedError) as error:
            self._say_refused(name, error.code)
            return False
        if judgement:
            self._parts.emit("endorsements.against", digest=name, reason=judgement)
        return True

    def _judgement(self, collateral: Collateral, now: int) -> str:
        """Return what a genuine set has against the quote, "" if it accepts it."""
        try:
            verify_quote(self._quote, collateral, now, self._anchor)
        except EvidenceError as error:
            if error.code not in _JUDGEMENTS:
                raise
            return error.code
        return ""

    def _take(self, one: Endorsements) -> None:
        digest = one.collateral.digest
        if not (self._from_store and self.chosen is not None and self.chosen.digest == digest):
            self._parts.emit(
                "endorsements.chosen",
                digest=digest.hex,
                number=one.number,
                until=one.whole.until,
            )
        self.chosen, self._until, self._from_store = one.collateral, one.whole.until, True
        self._said = ""

    def _say_refused(self, name: str, code: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            self._parts.emit("endorsements.refused", digest=name, reason=code)

    def _say_absent(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            self._parts.emit("endorsements.absent", reason=reason)


def _given(parts: NotaryParts) -> Collateral | None:
    """Return what there is without a store."""
    return parts.collateral or parts.provider.collateral()


def _end_of(collateral: Collateral | None) -> float:
    if collateral is not None:
        with suppress(MalformedError):
            return parse_endorsements(collateral).whole.until
    return math.nan


def _code(error: Exception) -> str:
    return error.code if isinstance(error, AttestationError) else "internal"
