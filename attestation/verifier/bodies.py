"""Do the commitments of a receipt open to these bodies?

A commitment needs the body and the key that the gateway gave to the requester.  What cannot be
opened is skipped; it counts where the verifier asked for it (`Contents.must_check`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.receipt.block import remove_block, render_block
from attestation.receipt.claims import ALLOWED, End
from attestation.receipt.commitments import verify_commitment
from attestation.receipt.padding import BATCHED, PADDED, without_filling
from attestation.receipt.splices import apply_splices

if TYPE_CHECKING:
    from attestation.bundle import BundledReceipt
    from attestation.receipt.claims import ReceiptClaims
    from attestation.receipt.commitments import Openings
    from attestation.verifier.contents import Contents
    from attestation.verifier.ledger import Page

_LABELS = {
    "REQUEST-BODY": "req",
    "FORWARDED-BODY": "fwd",
    "ENGINE-BODY": "eng",
    "RESPONSE-BODY": "res",
}
_ENGINES_WORD = (End.COMPLETE, End.CLIENT_ABORT)
_SOURCES = {
    "REQUEST-BODY": "give it with --request or --contents",
    "ENGINE-BODY": "put it beside the answer as <id>.engine, or withhold the opening eng",
    "RESPONSE-BODY": "give it with --response or --contents",
}


def check_bodies(item: BundledReceipt, contents: Contents, page: Page) -> None:
    """REQUEST-BODY, FORWARDED-BODY, ENGINE-BODY and RESPONSE-BODY of one receipt."""
    desk = _Desk(item, contents, page)
    _check_forwarded(desk, bound=_check_request(desk))
    _check_engine(desk, bound=_check_response(desk))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """All it takes to check one commitment."""

    commitment: bytes
    key: bytes = field(repr=False)
    body: bytes = field(repr=False)


class _Desk:
    """One receipt with what is known about it, and the steps that its body checks share."""

    def __init__(self, item: BundledReceipt, contents: Contents, page: Page) -> None:
        self.item = item
        self.claims = item.receipt.claims
        self.contents = contents
        self.page = page

    @property
    def inserted(self) -> tuple[bytes, ...]:
        return self.item.openings.inserted if self.item.openings else ()

    def skip(self, id_: str, reason: str, hint: str = "") -> None:
        if id_ in self.contents.must_check:
            self.page.lacking(id_, reason, hint=hint)
        else:
            self.page.skipped(id_, reason, hint=hint)

    def key_for(self, id_: str) -> bytes | None:
        openings = self.item.openings
        return openings.keys.get(_LABELS[id_]) if openings else None

    def opening(self, id_: str, commitment: bytes | None, body: bytes | None) -> _Opening | None:
        """Return commitment, key and body, or write down which of them there is not."""
        key = self.key_for(id_)
        if commitment is None:
            self.without_commitment(id_, "the receipt does not commit to this body")
        elif body is None:
            self.skip(id_, "the body was not given", _SOURCES[id_])
        elif key is None:
            hint = f'put "{_LABELS[id_]}" into the receipt\'s openings'
            self.skip(id_, "the opening of this commitment was not disclosed", hint)
        else:
            return _Opening(commitment=commitment, key=key, body=body)
        return None

    def without_commitment(self, id_: str, reason: str) -> None:
        """Skip, unless the openings pretend that there were something to open."""
        if self.key_for(id_) is None:
            self.skip(id_, reason)
        else:
            self.page.rejected(
                id_,
                "the openings name something that the receipt makes no commitment to",
                expected=f'no "{_LABELS[id_]}" among the openings',
                observed="one",
            )

    def verify(self, id_: str, opening: _Opening, body: bytes, note: str) -> bool:
        """Open the commitment to `body`; say whether it does."""
        try:
            verify_commitment(opening.commitment, opening.key, Digest.of(body), what="the body")
        except EvidenceError as error:
            self.page.refused(id_, error)
            return False
        self.page.passed(id_, note, observed=counted(len(body), "byte"))
        return True

    def as_long_as(self, id_: str, length: int | None, body: bytes) -> bool:
        """Compare the length that the receipt states; an in-band block does not count."""
        if len(body) == length:
            return True
        self.page.rejected(
            id_,
            "the body is not as long as the receipt says",
            expected=f"{length} bytes, without an in-band block",
            observed=counted(len(body), "byte"),
        )
        return False


def _check_request(desk: _Desk) -> bool:
    id_, claims = "REQUEST-BODY", desk.claims.request
    opening = desk.opening(id_, claims.commitment, desk.contents.request)
    if opening is None:
        return False
    body, note = opening.body, "the receipt commits to these bytes"
    if claims.partial:
        body = body[: claims.length]
        note = f"the receipt commits to the first {claims.length} bytes: no more was read"
    return desk.as_long_as(id_, claims.length, body) and desk.verify(id_, opening, body, note)


def _check_forwarded(desk: _Desk, *, bound: bool) -> None:
    id_, claims = "FORWARDED-BODY", desk.claims.request
    request = desk.contents.request if bound else None
    if claims.forwarded is None:
        _check_not_rewritten(desk, bound=bound)
    elif request is None:
        desk.skip(id_, "the request is not bound")
    elif not desk.inserted:
        desk.skip(id_, "the inserted bytes were not disclosed", 'put "ins" into the openings')
    else:
        _check_rewrites(desk, claims.forwarded, request)


def _check_not_rewritten(desk: _Desk, *, bound: bool) -> None:
    id_ = "FORWARDED-BODY"
    if desk.inserted:
        desk.page.rejected(
            id_, "the openings name a rewrite that the receipt does not", expected="no rewrite"
        )
    elif bound and desk.key_for(id_) is None:
        _say_forwarded(desk)
    else:
        desk.without_commitment(id_, "the request is not bound")


def _say_forwarded(desk: _Desk) -> None:
    code = desk.claims.decision.code
    if code == ALLOWED:
        desk.page.passed("FORWARDED-BODY", "forwarded as received, not a byte changed")
    else:
        desk.page.info("FORWARDED-BODY", f"nothing was forwarded: the decision was {code}")


def _check_rewrites(desk: _Desk, commitment: bytes, request: bytes) -> None:
    id_, splices = "FORWARDED-BODY", desk.claims.request.splices
    try:
        forwarded = apply_splices(request, splices, desk.inserted)
    except EvidenceError as error:
        desk.page.refused(id_, error)
        return
    opening = desk.opening(id_, commitment, forwarded)
    if opening is not None:
        codes = ", ".join(splice.code for splice in splices)
        note = f"forwarded with {counted(len(splices), 'change')}: {codes}"
        desk.verify(id_, opening, forwarded, note)


def _check_response(desk: _Desk) -> bool:
    id_, claims = "RESPONSE-BODY", desk.claims.response
    opening = desk.opening(id_, claims.commitment, desk.contents.response)
    if opening is None:
        return False
    try:
        body = _without_block(desk, opening.body)
    except EvidenceError as error:
        desk.page.refused(id_, error)
        return False
    note = "the receipt commits to these bytes"
    if body != opening.body:
        note += f" around the in-band block at {claims.block_offset}"
    return desk.as_long_as(id_, claims.length, body) and desk.verify(id_, opening, body, note)


def _check_engine(desk: _Desk, *, bound: bool) -> None:
    id_, claims = "ENGINE-BODY", desk.claims.response
    if claims.engine is None:
        if bound and desk.key_for(id_) is None:
            _say_delivered(desk)
        else:
            desk.without_commitment(id_, "the answer is not bound")
        return
    if bound and desk.contents.engine is None and PADDED in claims.mods:
        _check_padded(desk, claims.engine)
        return
    opening = desk.opening(id_, claims.engine, desk.contents.engine)
    if opening is not None:
        desk.verify(id_, opening, opening.body, "the receipt commits to the engine's bytes")


def _check_padded(desk: _Desk, commitment: bytes) -> None:
    """The engine's bytes are the bound answer's without its filling, unless more was changed.

    Where they are not, it may be that an event was dropped, or that the engine sent comments of
    the same form: that is no proof of anything, so the check stays open.
    """
    id_ = "ENGINE-BODY"
    opening = desk.opening(id_, commitment, desk.contents.response)
    if opening is None:
        return
    body = without_filling(_without_block(desk, opening.body))
    try:
        verify_commitment(commitment, opening.key, Digest.of(body), what="the body")
    except EvidenceError:
        reason = "without its padding the answer is not what the engine sent: more was changed"
        desk.skip(id_, reason, _SOURCES[id_])
    else:
        note = "the engine's answer was delivered with padding, and not a byte of it changed"
        desk.page.passed(id_, note, observed=counted(len(body), "byte"))


def _say_delivered(desk: _Desk) -> None:
    """Say whose the answer is: with any other end, equal bytes can only be the gateway's own."""
    if desk.claims.response.end in _ENGINES_WORD:
        note = "the engine's answer was delivered, not a byte changed"
        if BATCHED in desk.claims.response.mods:
            note += "; its events were released on a tick"
        desk.page.passed("ENGINE-BODY", note)
    else:
        desk.page.info("ENGINE-BODY", "the answer is the gateway's own: the engine sent nothing")


def _without_block(desk: _Desk, body: bytes) -> bytes:
    """Take the in-band block out of `body`: exactly it, exactly where the receipt says it is.

    The block holds all openings, so it can be rebuilt from all of them only.  Where some were
    withheld, `body` has to come without the block.
    """
    offset, openings = desk.claims.response.block_offset, desk.item.openings
    if offset is None or openings is None or not _all_disclosed(openings, desk.claims):
        return body
    return remove_block(body, offset, render_block(desk.item.receipt.token, openings))


def _all_disclosed(openings: Openings, claims: ReceiptClaims) -> bool:
    commitments = {
        "req": claims.request.commitment,
        "fwd": claims.request.forwarded,
        "eng": claims.response.engine,
    }
    made = {label for label, commitment in commitments.items() if commitment is not None}
    # "res" is not asked for: without it nothing of the answer is opened.
    return openings.keys.keys() >= made and len(openings.inserted) == len(claims.request.splices)
