"""Do the commitments of a receipt open to these bodies?

A commitment needs the body and the key that the gateway gave to the requester.  What cannot be
opened is skipped; it counts where the verifier asked for it (`Contents.must_check`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.receipt.block import remove_block, render_block
from attestation.receipt.commitments import verify_commitment
from attestation.receipt.splices import apply_splices

if TYPE_CHECKING:
    from attestation.bundle import BundledReceipt
    from attestation.verifier.contents import Contents
    from attestation.verifier.ledger import Page

_LABELS = {
    "REQUEST-BODY": "req",
    "FORWARDED-BODY": "fwd",
    "ENGINE-BODY": "eng",
    "RESPONSE-BODY": "res",
}


def check_bodies(item: BundledReceipt, contents: Contents, page: Page) -> None:
    """REQUEST-BODY, FORWARDED-BODY, ENGINE-BODY and RESPONSE-BODY of one receipt."""
    desk = _Desk(item, contents, page)
    request_bound = _check_request(desk)
    _check_forwarded(desk, request_bound=request_bound)
    response_bound = _check_response(desk)
    _check_engine(desk, response_bound=response_bound)


class _Desk:
    """One receipt with what is known about it, and the steps that its body checks share."""

    def __init__(self, item: BundledReceipt, contents: Contents, page: Page) -> None:
        self.item = item
        self.claims = item.receipt.claims
        self.contents = contents
        self.page = page

    def skip(self, id_: str, reason: str, hint: str = "") -> bool:
        if id_ in self.contents.must_check:
            self.page.lacking(id_, reason, hint=hint)
        else:
            self.page.skipped(id_, reason, hint=hint)
        return False

    def key_for(self, id_: str) -> bytes | None:
        openings = self.item.openings
        return openings.keys.get(_LABELS[id_]) if openings else None

    def opened(self, id_: str, commitment: bytes, body: bytes, note: str) -> bool:
        """Open `commitment` with the disclosed key, or say why that is not possible."""
        key = self.key_for(id_)
        if key is None:
            return self.skip(
                id_,
                "the opening of this commitment was not disclosed",
                f'put "{_LABELS[id_]}" into the receipt\'s openings',
            )
        try:
            verify_commitment(commitment, key, Digest.of(body), what="the body")
        except EvidenceError as error:
            self.page.refused(id_, error)
            return False
        self.page.passed(id_, note, observed=f"{len(body)} bytes")
        return True

    def refuse_stray_key(self, id_: str) -> bool:
        """Refuse an opening for a commitment that the receipt does not make."""
        if self.key_for(id_) is None:
            return False
        self.page.rejected(
            id_,
            "the openings name something that the receipt makes no commitment to",
            expected=f'no "{_LABELS[id_]}" among the openings',
            observed="one",
        )
        return True


def _check_request(desk: _Desk) -> bool:
    id_, claims, body = "REQUEST-BODY", desk.claims.request, desk.contents.request
    if claims.commitment is None or claims.length is None:
        if desk.refuse_stray_key(id_):
            return False
        return desk.skip(id_, "the receipt does not commit to the request")
    if body is None:
        return desk.skip(id_, "no request body was given", "give it with --request or --contents")
    read = body[: claims.length] if claims.partial else body
    if len(read) != claims.length:
        desk.page.rejected(
            id_,
            "the request is not as long as the receipt says",
            expected=f"{claims.length} bytes",
            observed=f"{len(read)} bytes",
        )
        return False
    note = "the receipt commits to these bytes"
    if claims.partial:
        note = f"the receipt commits to the first {claims.length} bytes: no more was read"
    return desk.opened(id_, claims.commitment, read, note)


def _check_forwarded(desk: _Desk, *, request_bound: bool) -> None:
    id_, claims = "FORWARDED-BODY", desk.claims.request
    inserted = desk.item.openings.inserted if desk.item.openings else ()
    if claims.forwarded is None:
        if inserted or desk.key_for(id_) is not None:
            desk.page.rejected(
                id_, "the openings name a rewrite that the receipt does not", expected="no rewrite"
            )
        elif request_bound:
            desk.page.passed(id_, "forwarded as received, not a byte changed")
        else:
            desk.skip(id_, "the request is not bound")
        return
    if not request_bound or desk.contents.request is None:
        desk.skip(id_, "the request is not bound")
        return
    if not inserted:
        desk.skip(id_, "the inserted bytes were not disclosed", 'put "ins" into the openings')
        return
    try:
        forwarded = apply_splices(desk.contents.request, claims.splices, inserted)
    except EvidenceError as error:
        desk.page.refused(id_, error)
        return
    codes = ", ".join(splice.code for splice in claims.splices)
    desk.opened(id_, claims.forwarded, forwarded, f"forwarded with these rewrites only: {codes}")


def _check_response(desk: _Desk) -> bool:
    id_, claims, body = "RESPONSE-BODY", desk.claims.response, desk.contents.response
    if claims.commitment is None:
        if desk.refuse_stray_key(id_):
            return False
        return desk.skip(id_, "the receipt does not commit to the answer")
    if body is None:
        return desk.skip(id_, "no answer was given", "give it with --response or --contents")
    body, note = _without_block(desk, body)
    if len(body) != claims.length:
        desk.page.rejected(
            id_,
            "the answer is not as long as the receipt says",
            expected=f"{claims.length} bytes without the in-band block",
            observed=f"{len(body)} bytes",
        )
        return False
    return desk.opened(id_, claims.commitment, body, f"the receipt commits to these bytes{note}")


def _check_engine(desk: _Desk, *, response_bound: bool) -> None:
    id_, claims, body = "ENGINE-BODY", desk.claims.response, desk.contents.engine
    if claims.engine is None:
        if desk.refuse_stray_key(id_):
            return
        if response_bound:
            desk.page.passed(id_, "the engine's answer was delivered, not a byte changed")
        else:
            desk.skip(id_, "the answer is not bound")
    elif body is None:
        desk.skip(
            id_,
            "the engine's own bytes differ from the answer and were not given",
            'put them beside the answer as <id>.engine, or leave "eng" out of the openings',
        )
    else:
        desk.opened(id_, claims.engine, body, "the receipt commits to the engine's bytes")


def _without_block(desk: _Desk, body: bytes) -> tuple[bytes, str]:
    """Take the in-band block out of `body` where it stands exactly as it must.

    Elsewhere `body` stays as it is: the commitment, which covers the bytes without the block,
    then decides.
    """
    offset, openings = desk.claims.response.block_offset, desk.item.openings
    if offset is None or openings is None:
        return body, ""
    block = render_block(desk.item.receipt.token, openings)
    try:
        return remove_block(body, offset, block), f" around the in-band block at {offset}"
    except EvidenceError:
        return body, "; the in-band block was already taken out"
