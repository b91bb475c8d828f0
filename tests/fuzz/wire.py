"""The notary's socket: frames, and what either side reads out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UsageError
from attestation.receipt.claims import Attempt, Splice, Usage
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body, ModelFacts
from gateway.notary.interface import Announcement, Challenge, Found, ReceiptState, SealedReceipt
from gateway.notary.wire import announcements, messages, outcomes, receipts, replies
from gateway.notary.wire.frames import (
    FROM_NOTARY,
    MAX_FROM_NOTARY,
    MAX_TO_NOTARY,
    TO_NOTARY,
    FrameReader,
    Kind,
    encode_frame,
)
from gateway.notary.wire.replies import Condition
from tests.fuzz.seeds import JTI, world
from tests.support.notaries import ALICE, announcement, outcome

Codec = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]
DIGEST = Digest.of(b"fuzz")


def _said(data: bytes) -> Announcement:
    """What the request with the id in an outcome was announced as."""
    return announcement(outcomes.outcome_id(data))


TO: tuple[Codec, ...] = (
    (lambda data: outcomes.decode_outcome(data, _said(data)), outcomes.encode_outcome),
    (announcements.decode_announcement, announcements.encode_announcement),
    (messages.decode_search, messages.encode_search),
    (messages.decode_count, lambda counts: messages.encode_count(*counts)),
    (messages.decode_nonce, messages.encode_nonce),
    (messages.decode_path, messages.encode_path),
    (messages.decode_epoch_number, messages.encode_epoch_number),
)
FROM: tuple[Codec, ...] = (
    (receipts.decode_sealed, receipts.encode_sealed),
    (replies.decode_found, replies.encode_found),
    (replies.decode_challenge, replies.encode_challenge),
    (replies.decode_condition, replies.encode_condition),
    (replies.decode_failure, replies.encode_failure),
    (lambda data: replies.decode_hello(data)[0].evidence, lambda _evidence: b""),
)


def run_frames(data: bytes) -> None:
    """Both directions, in one piece and byte by byte: the same frames, the same rest."""
    for kinds, limit in ((TO_NOTARY, MAX_TO_NOTARY), (FROM_NOTARY, MAX_FROM_NOTARY)):
        whole, slow = (FrameReader(kinds, max_payload=limit) for _ in range(2))
        try:
            found = list(whole.feed(data))
        except MalformedError:
            if kinds is FROM_NOTARY:
                raise
            continue
        assert [one for at in range(len(data)) for one in slow.feed(data[at : at + 1])] == found
        assert slow.pending == whole.pending
        encoded = b"".join(encode_frame(one.kind, one.request, one.payload) for one in found)
        assert data.startswith(encoded)
        return


def run_to_notary(data: bytes) -> None:
    """Whatever is read says the same when it is written again."""
    _run(TO, data)


def run_from_notary(data: bytes) -> None:
    """As `run_to_notary`, in the other direction."""
    _run(FROM, data)


def _run(codecs: tuple[Codec, ...], data: bytes) -> None:
    refusal: MalformedError | None = None
    for decode, encode in codecs:
        try:
            value = decode(data)
        except MalformedError as error:
            refusal = error
            continue
        again = encode(value)
        assert not again or isinstance(value, Exception) or decode(again) == value
        return
    assert refusal is not None
    raise refusal


def frames() -> list[bytes]:
    """A worker's whole life."""
    said = announcement(JTI)
    return [
        encode_frame(Kind.ANNOUNCE, 0, announcements.encode_announcement(said))
        + encode_frame(Kind.SEAL, 1, outcomes.encode_outcome(outcome(JTI)))
        + encode_frame(Kind.CANCEL, 1, b"")
    ]


def to_notary() -> list[bytes]:
    """Every message of a worker, the outcome with everything in it first."""
    body = Body(digest=DIGEST, length=7)
    full = replace(
        outcome(JTI),
        forwarded=body,
        engine=body,
        splices=(Splice(code="salt", offset=1, deleted=0, inserted=2),),
        inserted=(b"ab",),
        nonce="nonce-nonce",
        block_offset=3,
        events=4,
        finish_reasons=("stop",),
        mods=("tail",),
        model=ModelFacts(id="m", served="m", engine="vllm/1"),
        usage=Usage(input=1, output=2, total=3),
        attempts=(Attempt(upstream="e", local=True, outcome="ok", milliseconds=5),),
    )
    return [
        outcomes.encode_outcome(full),
        announcements.encode_announcement(announcement(JTI, lineage=full.lineage)),
        messages.encode_search(messages.Search(jti=JTI, sub=ALICE, wait_milliseconds=10)),
        messages.encode_count(1, 2),
        messages.encode_nonce(bytes(32)),
        messages.encode_path("tile/0/000"),
        messages.encode_epoch_number(None),
    ]


def from_notary() -> list[bytes]:
    """Every message of the notary."""
    openings = Openings(keys={"req": bytes(32), "res": DIGEST.value}, inserted=(b"ab",))
    token = world().token
    sealed = SealedReceipt(jti=JTI, token=token, openings=openings, index=1, digest=DIGEST)
    found = Found(jti=JTI, state=ReceiptState.SEALED, token=token, openings=openings, proof="p")
    challenge = Challenge(statement=b"{}", quote=b"q", index=0, count=2, path=(DIGEST.value,))
    hello = [world().bundle.decode(), None, "simulated", True, "", "5a" * 32]
    return [
        receipts.encode_sealed(sealed),
        replies.encode_found(found),
        replies.encode_challenge(challenge),
        replies.encode_condition(Condition(healthy=True, reason="")),
        replies.encode_failure(UsageError("no", code="c", expected="e")),
        json.dumps(hello).encode(),
    ]
