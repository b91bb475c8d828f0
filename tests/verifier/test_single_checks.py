"""Checks that another one would hide: each is the only thing between a forgery and a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.encoding import base64std
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from attestation.receipt.claims import Splice
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body
from attestation.result import Status, Verdict
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.verifier import Contents, HighWater, high_water, parse_high_water
from attestation.verifier.epochs import QuotedEpoch
from attestation.verifier.missing import missing_leaves
from tests.refusals import refusal
from tests.support.bundles import (
    ANSWER,
    FRAMES,
    REQUEST,
    Exchanged,
    Gateway,
    failed,
    open_checks,
)
from tests.support.epochs import COMPLETE, EpochLog, proof_of
from tests.verifier.support import checks, epoch_log, gateway

LOOSE = "require_anchored = false"
NONCE = b"\x5a" * 32


# Bodies


def answered(request: Body, response: Body) -> tuple[Gateway, Exchanged]:
    made = Gateway()
    made.plain()
    outcome = made.outcome(request=REQUEST, response=ANSWER)
    stated = replace(outcome, request=request, response=response)
    item = made.seal(stated, index=2, admission=1)
    made.exchanged[:] = [Exchanged(item=item, request=REQUEST, response=ANSWER)]
    return made, made.exchanged[0]


@pytest.mark.parametrize(("request_by", "response_by"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_body_that_is_committed_to_and_not_as_long_as_stated_is_rejected_once(
    request_by: int, response_by: int
) -> None:
    made, _ = answered(
        Body(digest=Digest.of(REQUEST), length=len(REQUEST) + request_by),
        Body(digest=Digest.of(ANSWER), length=len(ANSWER) + response_by),
    )
    result = made.verify()
    wrong = "REQUEST-BODY" if request_by else "RESPONSE-BODY"
    assert failed(result) == {wrong}
    (check,) = checks(result, wrong)
    assert "as long as" in check.reason


@pytest.mark.parametrize(
    ("member", "wrong", "dependent"),
    [("request", "REQUEST-BODY", "FORWARDED-BODY"), ("response", "RESPONSE-BODY", "ENGINE-BODY")],
)
@pytest.mark.parametrize("by", [b"", b" "])
def test_body_that_is_not_bound_binds_nothing_else(
    member: str, wrong: str, dependent: str, by: bytes
) -> None:
    made = gateway()
    (exchanged,) = made.exchanged
    body = getattr(exchanged, member).swapcase() + by
    result = made.verify(contents={exchanged.jti: exchanged.contents(**{member: body})})
    assert failed(result) == {wrong}
    assert [check.status for check in checks(result, dependent)] == [Status.SKIP]


def test_body_that_was_not_given_binds_nothing_else() -> None:
    made = gateway()
    (exchanged,) = made.exchanged
    result = made.verify(contents={exchanged.jti: exchanged.contents(request=None, response=None)})
    assert [check.status for check in checks(result, "FORWARDED-BODY")] == [Status.SKIP]
    assert [check.status for check in checks(result, "ENGINE-BODY")] == [Status.SKIP]


def with_forwarded(made: Gateway) -> Exchanged:
    """A stream with a rewritten request and an engine's own answer beside it."""
    at = len(REQUEST) - 1
    inserted = b',"n":1'
    forwarded, engine = REQUEST[:at] + inserted + REQUEST[at:], b"".join(FRAMES) + b"\n"
    return made.stream(
        forwarded=Body(digest=Digest.of(forwarded), length=len(forwarded)),
        splices=(Splice(code="n", offset=at, deleted=0, inserted=len(inserted)),),
        inserted=(inserted,),
        engine=Body(digest=Digest.of(engine), length=len(engine)),
    )


@pytest.mark.parametrize("withheld", ["req", "fwd", "eng", "ins"])
def test_block_is_not_rebuilt_without_every_opening(withheld: str) -> None:
    made = Gateway()
    exchanged = with_forwarded(made)
    openings = exchanged.item.openings
    assert openings is not None
    keys = {label: key for label, key in openings.keys.items() if label != withheld}
    shown = () if withheld == "ins" else openings.inserted
    item = replace(exchanged.item, openings=Openings(keys=keys, inserted=shown))
    bundle = made.bundle(receipts=[item])
    for response, status in ((b"".join(FRAMES), Status.PASS), (exchanged.response, Status.FAIL)):
        result = made.verify(bundle=bundle, contents={item.jti: Contents(response=response)})
        assert [check.status for check in checks(result, "RESPONSE-BODY")] == [status]


def test_rewrites_of_a_request_that_is_not_bound_are_not_looked_at() -> None:
    made = Gateway()
    exchanged = with_forwarded(made)
    known = {exchanged.jti: Contents(request=REQUEST.swapcase())}
    result = made.verify(contents=known)
    assert failed(result) == {"REQUEST-BODY"}
    assert [check.status for check in checks(result, "FORWARDED-BODY")] == [Status.SKIP]


def test_stream_whose_block_is_wrong_binds_no_engines_word() -> None:
    made = Gateway()
    exchanged = made.stream()
    result = made.verify(contents={exchanged.jti: Contents(response=b"".join(FRAMES))})
    assert failed(result) == {"RESPONSE-BODY"}
    assert [check.status for check in checks(result, "ENGINE-BODY")] == [Status.SKIP]


# The log


def test_proof_that_does_not_hold_says_what_else_was_not_made() -> None:
    made = gateway()
    made.anchored()
    (exchanged,) = made.exchanged
    assert exchanged.item.proof is not None
    proof = parse_tlog_proof(exchanged.item.proof)
    for changed, wrong in (
        (replace(proof, path=(bytes(32),)), "LOG-INCLUSION"),
        (replace(proof, note=_resigned(proof.note)), "LOG-CHECKPOINT"),
    ):
        item = replace(exchanged.item, proof=render(changed))
        result = made.verify(bundle=made.bundle(receipts=[item]))
        assert failed(result) == {wrong}
        assert [check.status for check in checks(result, "EPOCH-QUOTE")] == [Status.SKIP]
        assert len(checks(result, "LOG-INCLUSION")) == 1


def _resigned(note: str) -> str:
    """The note with another signature under the log's own name and key id."""
    head, _, last = note.rpartition(" ")
    raw = base64std.decode(last.strip(), what="a signature")
    return f"{head} {base64std.encode(raw[:4] + bytes(64))}\n"


def test_proof_of_another_place_says_what_else_was_not_made() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch()
    first, second = log.items
    swapped = log.made.seal(log.made.outcome(), index=3, admission=5)
    log.entries[2] = b"\x01" + swapped.receipt.digest.value
    other = EpochLog(log.made, entries=list(log.entries[:3]), admitted=2)
    other.quote_epoch()
    proof = proof_of(2, other.leaves(3), other.epochs[0].checkpoint)
    item = replace(swapped, proof=proof)
    result = other.verify(receipts=[first, item], log=LOOSE, contents={})
    wrong = [check for check in checks(result, "LOG-INCLUSION") if check.status is Status.FAIL]
    assert len(wrong) == 1
    own = [check for check in checks(result, "EPOCH-QUOTE") if check.subject == wrong[0].subject]
    assert [check.status for check in own] == [Status.SKIP]
    assert second != item


def test_file_without_a_receipt_compares_nothing_and_says_so() -> None:
    made = Gateway()
    (check,) = checks(made.verify(), "EQUIVOCATION")
    assert (check.status, "to compare" in check.reason) == (Status.SKIP, True)


def test_epoch_whose_checkpoint_is_not_signed_is_not_quoted() -> None:
    log = epoch_log(1)
    log.epochs[0] = replace(log.epochs[0], checkpoint=_resigned(log.epochs[0].checkpoint))
    result = log.verify(log=LOOSE, contents={})
    own = [check for check in checks(result, "EPOCH-QUOTE") if check.subject.startswith("epoch ")]
    assert [(check.status, check.verdict) for check in own] == [(Status.SKIP, Verdict.INCOMPLETE)]
    assert result.facts["epochs"] == []


def test_epoch_whose_quote_is_not_genuine_is_not_quoted() -> None:
    log = epoch_log(1)
    quote = bytearray(log.epochs[0].quote)
    quote[640] ^= 1
    log.epochs[0] = replace(log.epochs[0], quote=bytes(quote))
    result = log.verify(log=LOOSE, contents={})
    own = [check for check in checks(result, "EPOCH-QUOTE") if check.subject.startswith("epoch ")]
    assert [(check.status, check.verdict) for check in own] == [(Status.SKIP, Verdict.INCOMPLETE)]
    assert result.facts["epochs"] == []


# What is missing of a log


def epoch_at(number: int, size: int) -> QuotedEpoch:
    """An epoch of which only number and size count here."""
    said = replace(epoch_log(1).epochs[0].statement, epoch=number, size=size)
    return QuotedEpoch(statement=said, quote_digest=Digest.of(b""), text="")


def test_leaf_between_two_epochs_in_order_is_the_first_ones_statement() -> None:
    first, second = epoch_at(0, 3), epoch_at(1, 5)
    assert missing_leaves([1, 2, 4], [first, second], 5) == []
    assert missing_leaves([1, 2, 4], [first, epoch_at(2, 5)], 5) == [(3, 3)]


def test_missing_leaves_end_where_the_question_does() -> None:
    later = [epoch_at(0, 2), epoch_at(1, 9)]
    assert missing_leaves([], later, 5) == [(1, 4)]
    assert missing_leaves([], [], 5) == [(1, 4)]


def test_missing_spans_are_joined_across_the_size_of_an_epoch_only_if_they_touch() -> None:
    epochs = [epoch_at(0, 3), epoch_at(1, 6)]
    assert missing_leaves([], epochs, 6) == [(1, 5)]
    assert missing_leaves([2], epochs, 6) == [(1, 1), (3, 5)]


def test_line_by_another_signer_with_the_same_key_id_is_another_signature() -> None:
    made = gateway()
    made.anchored()
    (exchanged,) = made.exchanged
    assert exchanged.item.proof is not None
    proof = parse_tlog_proof(exchanged.item.proof)
    own = proof.note.splitlines()[-1].split(" ")[2]
    key_id = base64std.decode(own, what="a signature")[:4]
    line = f"\u2014 witness {base64std.encode(key_id + bytes(64))}\n"
    item = replace(exchanged.item, proof=render(replace(proof, note=proof.note + line)))
    result = made.verify(bundle=made.bundle(receipts=[item]))
    assert result.verdict is Verdict.SIMULATED
    assert [check.status for check in checks(result, "WITNESS")] == [Status.INFO]


def test_completed_receipts_never_become_fewer() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch()
    log.quote_epoch(completed=1, in_flight=1)
    result = log.verify(log=LOOSE, receipts=[], contents={})
    (check,) = [one for one in checks(result, "EPOCH-CHAIN") if one.status is Status.FAIL]
    assert check.observed == "completed 1"


def test_log_never_becomes_smaller() -> None:
    log = EpochLog(Gateway())
    log.serve(3)
    log.quote_epoch()
    log.quote_epoch(checkpoint=log.checkpoint(3))
    result = log.verify(log=LOOSE, receipts=[], contents={})
    (check,) = [one for one in checks(result, "EPOCH-CHAIN") if one.status is Status.FAIL]
    assert check.observed == "size 3; completed 2"


def test_admitted_requests_never_become_fewer() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.announce()
    log.quote_epoch()
    log.quote_epoch(admitted=2, in_flight=0)
    result = log.verify(log=LOOSE, receipts=[], contents={})
    (check,) = [one for one in checks(result, "EPOCH-CHAIN") if one.status is Status.FAIL]
    assert check.observed == "admitted 2"


def test_log_without_its_first_epoch_is_open_and_accuses_nobody() -> None:
    log = epoch_log()
    result = log.verify(epochs=log.epochs[1:], log=COMPLETE, contents={})
    assert failed(result) == set()
    assert result.verdict is Verdict.INCOMPLETE
    assert "EPOCH-CHAIN" in open_checks(result)


def test_log_whose_leaves_make_another_tree_is_not_complete() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    other = Checkpoint(origin=log.made.origin, size=3, root=Digest.of(b"another tree").value)
    log.quote_epoch(checkpoint=other)
    items = [replace(item, proof=None) for item in log.items]
    result = log.verify(log=COMPLETE, receipts=items)
    assert failed(result) == {"EQUIVOCATION"}
    (check,) = [c for c in checks(result, "EPOCH-CHAIN") if c.subject.startswith("log of ")]
    assert check.status is Status.SKIP


def test_log_whose_epochs_leave_out_a_number_is_not_complete() -> None:
    log = EpochLog(Gateway())
    for number in (0, 2, 3):
        log.serve(2)
        log.quote_epoch(epoch=number)
    result = log.verify(log=COMPLETE, contents={})
    assert failed(result) == set()
    (check,) = [c for c in checks(result, "EPOCH-CHAIN") if c.subject.startswith("log of ")]
    assert check.status is Status.SKIP


def test_high_water_file_with_more_than_it_may_hold_is_malformed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = SignedPart(number=7, issued=5)
    two = [
        Endorsed(root="intel", fmspc=bytes([n] * 6), tcb_info=part, qe_identity=part)
        for n in range(2)
    ]
    one_file, full_file = (HighWater().raised(two[:count]).encode() for count in (1, 2))
    monkeypatch.setattr(high_water, "MAX_SEEN", 1)
    assert len(parse_high_water(one_file).seen) == 1
    assert refusal(parse_high_water, full_file) == "member_value"
