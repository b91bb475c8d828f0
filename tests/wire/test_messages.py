"""What crosses the notary's socket means the same on both sides, or is refused on the other."""

from __future__ import annotations

import gc
import secrets
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)
from attestation.receipt.claims import Attempt, End, Splice
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body, Outcome
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Announcement, Challenge, Found, ReceiptState, SealedReceipt
from gateway.notary.wire import announcements, messages, outcomes, receipts, replies, values
from gateway.notary.wire.insertions import insertions
from tests.refusals import refusal
from tests.support.notaries import ALICE, announcement, new_jti, outcome
from tests.wire.strategies import ANNOUNCEMENTS, DIGESTS, drawn_outcomes


@given(ANNOUNCEMENTS)
def test_announcement_arrives_as_it_was(said: Announcement) -> None:
    assert announcements.decode_announcement(announcements.encode_announcement(said)) == said


def said_of(ended: Outcome) -> Announcement:
    """How the request with this outcome was announced."""
    return Announcement(
        jti=ended.jti,
        method=ended.method,
        path=ended.path,
        sub=ended.sub,
        grant_digest=ended.grant_digest,
    )


def read_back(ended: Outcome) -> Outcome:
    return outcomes.decode_outcome(outcomes.encode_outcome(ended), said_of(ended))


@given(drawn_outcomes())
def test_outcome_arrives_as_it_was(ended: Outcome) -> None:
    assert read_back(ended) == ended
    assert outcomes.outcome_id(outcomes.encode_outcome(ended)) == ended.jti


@given(drawn_outcomes(), st.data())
def test_changed_byte_is_refused_or_read_as_what_it_says(
    ended: Outcome, data: st.DataObject
) -> None:
    payload = bytearray(outcomes.encode_outcome(ended))
    place = data.draw(st.integers(16, len(payload) - 1))
    payload[place] = data.draw(st.integers(0, 255) | st.sampled_from(b"\n,: 0"))
    try:
        read = outcomes.decode_outcome(bytes(payload), said_of(ended))
    except MalformedError:
        return
    assert read_back(read) == read


@given(drawn_outcomes(), st.data())
def test_outcome_that_was_cut_is_refused(ended: Outcome, data: st.DataObject) -> None:
    payload = outcomes.encode_outcome(ended)
    # Not within the last texts: fewer parents, or a part of one, may be an outcome as well.
    parents = sum(len(parent) + 1 for parent in ended.lineage.parents)
    before = payload[: len(payload) - parents]
    short = payload[: data.draw(st.integers(0, before.rindex(b"\n")))]
    with pytest.raises(MalformedError):
        outcomes.decode_outcome(short, said_of(ended))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_refusal(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except MalformedError as error:
            assert error.message  # noqa: PT017 - refusal is one of two allowed ends


DECODERS: tuple[Callable[[bytes], object], ...] = (
    announcements.decode_announcement,
    lambda data: outcomes.decode_outcome(data, announcement(new_jti())),
    receipts.decode_sealed,
    messages.decode_count,
    messages.decode_search,
    messages.decode_nonce,
    messages.decode_path,
    messages.decode_epoch_number,
    replies.decode_hello,
    replies.decode_condition,
    replies.decode_found,
    replies.decode_challenge,
    replies.decode_epoch,
    replies.decode_failure,
)

BODY = Body(digest=Digest.of(b"x"), length=3)
SPLICE = Splice(code="salt", offset=1, deleted=0, inserted=2)
CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "no-request": {"request": None},
    "no-response": {"response": None},
    "forwarded-without-rewrite": {"forwarded": BODY},
    "rewrite-without-forwarded": {"splices": (SPLICE,), "inserted": (b"ab",)},
    "rewrite-without-its-bytes": {"splices": (SPLICE,), "forwarded": BODY},
    "rewrite-with-other-bytes": {"splices": (SPLICE,), "inserted": (b"abc",), "forwarded": BODY},
    "bytes-without-rewrite": {"inserted": (b"ab",)},
    "block-beyond-the-response": {"block_offset": 9},
    "forwarded-without-request": {
        "end": End.GATEWAY_FAILURE,
        "request": None,
        "splices": (SPLICE,),
        "inserted": (b"ab",),
        "forwarded": BODY,
    },
    "status-out-of-range": {"status": 600},
    "negative-length": {"response": replace(BODY, length=-1)},
    "length-beyond-json": {"response": replace(BODY, length=1 << 53)},
    "decision": {"decision": "Free text, as it were"},
    "nonce": {"nonce": "short"},
    "media-type": {"response_type": 'text/"html"'},
    "reasons": {"finish_reasons": ("stop",) * 5},
    "reason": {"finish_reasons": ("a reason",)},
    "mods": {"mods": ("tail",) * 5},
    "attempts": {
        "attempts": (Attempt(upstream="e", local=True, outcome="ok", milliseconds=1),) * 4
    },
    "attempt-time": {
        "attempts": (Attempt(upstream="e", local=True, outcome="ok", milliseconds=-1),)
    },
    "insertion": {"splices": (replace(SPLICE, inserted=600),), "inserted": (bytes(600),)},
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_outcome_that_no_receipt_could_hold_is_refused(case: str) -> None:
    wrong = outcome(new_jti(), **CONTRADICTIONS[case])
    with pytest.raises(MalformedError):
        read_back(wrong)


@pytest.mark.parametrize("repeated", [True, False])
def test_hint_that_a_request_is_a_repeat_arrives(repeated: bool) -> None:
    told = outcome(new_jti())
    told = replace(told, lineage=replace(told.lineage, repeated=repeated))
    assert read_back(told).lineage.repeated is repeated


@pytest.mark.parametrize("flags", [8, 16, 128, 255])
def test_flags_that_mean_nothing_are_refused(flags: int) -> None:
    told = outcome(new_jti())
    payload = bytearray(outcomes.encode_outcome(told))
    payload[16] = flags
    with pytest.raises(MalformedError):
        outcomes.decode_outcome(bytes(payload), said_of(told))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b'["a","b",1.5]',
        b"[NaN,1,2]",
        b" [1,2]",
        b"[1,2] ",
        b"[1,2][1,2]",
        b"[" * 5000,
        b"[" + b"9" * 5000 + b",1]",
        b'["\xc3\xa9",1]',
    ],
)
def test_payload_that_is_no_array_of_its_length_is_refused(payload: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(MalformedError):
            decode(payload)


@pytest.mark.parametrize("counts", [(-1, 0), (0, 1_000_001), (True, 0)])
def test_counts_outside_their_bounds_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(MalformedError):
        messages.decode_count(messages.encode_count(*counts))


def test_nonce_of_another_length_is_refused() -> None:
    assert messages.decode_nonce(messages.encode_nonce(bytes(32))) == bytes(32)
    with pytest.raises(MalformedError):
        messages.decode_nonce(messages.encode_nonce(bytes(31)))


@pytest.mark.parametrize("path", ["", "../x y", "tile/0/000\n", "TILE", "a" * 129])
def test_odd_names_of_log_resources_do_not_reach_the_log(path: str) -> None:
    assert not messages.is_log_path(path)
    with pytest.raises(MalformedError):
        messages.decode_path(messages.encode_path(path))


def test_wait_beyond_half_a_minute_is_refused() -> None:
    search = messages.Search(jti=new_jti(), sub=ALICE, wait_milliseconds=30_000)
    assert messages.decode_search(messages.encode_search(search)) == search
    with pytest.raises(MalformedError):
        messages.decode_search(messages.encode_search(replace(search, wait_milliseconds=30_001)))


@given(st.binary(min_size=16, max_size=16), DIGESTS, st.integers(1, 1 << 40))
def test_sealed_receipt_arrives_as_it_was(jti: bytes, digest: Digest, index: int) -> None:
    sealed = SealedReceipt(
        jti=jti.hex(),
        token="a.b.c",
        openings=Openings(keys={"req": digest.value, "res": bytes(32)}, inserted=(b"x",)),
        index=index,
        digest=digest,
    )
    assert receipts.decode_sealed(receipts.encode_sealed(sealed)) == sealed


WRONG_RECEIPTS: dict[str, tuple[int, bytes]] = {
    "index": (16, bytes(8)),
    "another-label": (56, b"\x10"),
    "more-pieces-than-rewrites": (57, b"\x03"),
    "keys-beyond-the-end": (56, b"\x0f"),
    "piece-beyond-the-end": (58 + 64, b"\xff"),
    "token-that-is-no-text": (58 + 64 + 3, b"\x80"),
}


@pytest.mark.parametrize("case", WRONG_RECEIPTS)
def test_sealed_receipt_of_another_form_is_refused(case: str) -> None:
    place, wrong = WRONG_RECEIPTS[case]
    openings = Openings(keys={"req": bytes(32), "res": bytes(32)}, inserted=(b"x",))
    sealed = SealedReceipt(
        jti=new_jti(), token="a.b.c", openings=openings, index=1, digest=Digest.of(b"")
    )
    payload = receipts.encode_sealed(sealed)
    with pytest.raises(MalformedError):
        receipts.decode_sealed(payload[:place] + wrong + payload[place + len(wrong) :])


@pytest.mark.parametrize("inserted", [(), (b"ab",), (b"abc", b"")])
def test_openings_of_a_sealed_receipt_arrive_as_they_were(inserted: tuple[bytes, ...]) -> None:
    openings = Openings(keys={"fwd": bytes(32), "eng": bytes(32)}, inserted=inserted)
    sealed = SealedReceipt(
        jti=new_jti(), token="a.b.c", openings=openings, index=7, digest=Digest.of(b"")
    )
    assert receipts.decode_sealed(receipts.encode_sealed(sealed)) == sealed


def test_running_receipt_arrives_without_anything_else() -> None:
    found = Found(jti=new_jti(), state=ReceiptState.RUNNING)
    assert replies.decode_found(replies.encode_found(found)) == found


@given(st.integers(0, 1 << 40), st.lists(DIGESTS, max_size=10))
def test_challenge_arrives_as_it_was(index: int, path: list[Digest]) -> None:
    challenge = Challenge(
        statement=b"{}",
        quote=secrets.token_bytes(64),
        index=index,
        count=index + 1,
        path=tuple(node.value for node in path),
    )
    assert replies.decode_challenge(replies.encode_challenge(challenge)) == challenge


@pytest.mark.parametrize("healthy", [True, False])
def test_condition_arrives_as_it_was_and_never_contradicts_itself(healthy: bool) -> None:
    said = replies.Condition(healthy=healthy, reason="" if healthy else "log_failed")
    assert replies.decode_condition(replies.encode_condition(said)) == said
    with pytest.raises(MalformedError):
        replies.decode_condition(replies.encode_condition(replace(said, healthy=not healthy)))


@pytest.mark.parametrize(
    "error",
    [
        kind("what", code="c", expected="e", observed="o", hint="h")
        for kind in (MalformedError, EvidenceError, PolicyError, UnavailableError, UsageError)
    ],
)
def test_refusal_arrives_with_its_kind_and_words(error: AttestationError) -> None:
    read = replies.decode_failure(replies.encode_failure(error))
    assert type(read) is type(error)
    assert str(read) == str(error)
    assert isinstance(read, AttestationError)
    assert read.code == error.code


def test_end_of_the_boot_arrives_as_such() -> None:
    read = replies.decode_failure(replies.encode_failure(NotaryUnavailable("ended: closed")))
    assert isinstance(read, NotaryUnavailable)
    assert str(read) == "ended: closed"


def test_error_of_no_known_kind_is_refused() -> None:
    with pytest.raises(MalformedError):
        replies.decode_failure(b'["other","","","","",""]')


@pytest.mark.parametrize(
    "changes", [{"path": "v1"}, {"path": "/v1/chat completions"}, {"method": "GET"}]
)
def test_announcement_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    said = announcement(new_jti(), **changes)
    with pytest.raises(MalformedError):
        announcements.decode_announcement(announcements.encode_announcement(said))


@pytest.mark.parametrize("text", ["\ud800", "note \udfff", "\udc80x"])
def test_text_with_half_a_character_is_refused(text: str) -> None:
    assert refusal(values.free_text, text, 100) == "message"
    assert values.free_text("\u2014 name", 100) == "\u2014 name"


@pytest.mark.parametrize("digits", ["\u0661", "\uff11", "\u00b2", "", "-1", "+1", "1_0", "0" * 17])
def test_number_of_anything_but_ascii_digits_is_refused(digits: str) -> None:
    with pytest.raises(MalformedError):
        outcomes._number(digits)


def test_what_one_connection_remembers_of_insertions_is_not_anothers() -> None:
    one, other = insertions(), insertions()
    said = base64url.encode(b"a salt")
    assert one(said) is one(said)
    assert one(said) == other(said)
    assert one(said) is not other(said)


def test_what_a_connection_remembers_of_insertions_is_gone_with_it() -> None:
    read = insertions()
    watched = weakref.ref(read)
    read(base64url.encode(b"a salt"))
    del read
    gc.collect()
    assert watched() is None


def test_insertion_that_is_too_long_is_refused_each_time() -> None:
    read = insertions()
    for _ in range(2):
        with pytest.raises(MalformedError):
            read(base64url.encode(bytes(513)))
