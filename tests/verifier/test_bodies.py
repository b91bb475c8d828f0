"""The bodies of a receipt: request, forwarded, the engine's and the response."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End, Splice
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body
from attestation.receipt.padding import filling
from attestation.result import AttestationResult, Status, Verdict
from attestation.verifier import Contents
from tests.support.bundles import (
    ANSWER,
    FRAMES,
    REQUEST,
    Exchanged,
    Gateway,
    failed,
    open_checks,
    the_check,
)
from tests.verifier.support import HEALTHY, OTHER, gateway, known, refused, with_item


def test_bodies_that_the_receipt_commits_to_pass() -> None:
    result = HEALTHY.verify()
    for id_ in ("REQUEST-BODY", "FORWARDED-BODY", "ENGINE-BODY", "RESPONSE-BODY"):
        assert the_check(result, id_).status is Status.PASS
    assert not any("content" in note for note in result.not_proved)


@pytest.mark.parametrize(
    ("member", "id_"), [("request", "REQUEST-BODY"), ("response", "RESPONSE-BODY")]
)
@pytest.mark.parametrize(
    "change", [lambda b: b + b" ", lambda b: b[:-1], lambda b: b[:0], lambda b: b.swapcase()]
)
def test_other_bodies_are_rejected(member: str, id_: str, change: Any) -> None:
    body = getattr(HEALTHY.exchanged[0], member)
    refused(known(HEALTHY, **{member: change(body)}), Verdict.REJECTED, id_)


def test_without_bodies_no_content_is_bound() -> None:
    result = HEALTHY.verify(contents={})
    assert result.verdict is Verdict.SIMULATED
    assert any(note.startswith("no content bound") for note in result.not_proved)
    assert the_check(result, "REQUEST-BODY").status is Status.SKIP


def test_some_bodies_are_counted() -> None:
    made = gateway()
    made.plain(request=b"{}")
    first = made.exchanged[0]
    result = made.verify(contents={first.jti: first.contents()})
    assert any(note.startswith("content of 1 of 2 receipts") for note in result.not_proved)


@pytest.mark.parametrize("member", ["request", "response"])
def test_demanded_body_that_is_missing_is_incomplete(member: str) -> None:
    result = known(HEALTHY, **{member: None})
    assert result.verdict is Verdict.INCOMPLETE
    assert not failed(result)
    lenient = known(HEALTHY, **{member: None}, demanded=frozenset())
    assert lenient.verdict is Verdict.SIMULATED


@pytest.mark.parametrize(("label", "id_"), [("req", "REQUEST-BODY"), ("res", "RESPONSE-BODY")])
def test_body_without_its_opening_is_incomplete_even_if_not_demanded(label: str, id_: str) -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    keys = {name: key for name, key in item.openings.keys.items() if name != label}
    for openings in (Openings(keys=keys), None):
        bundle = HEALTHY.bundle(receipts=[replace(item, openings=openings)])
        contents = {item.jti: HEALTHY.exchanged[0].contents(demanded=frozenset())}
        result = HEALTHY.verify(bundle=bundle, contents=contents)
        assert result.verdict is Verdict.INCOMPLETE
        assert id_ in open_checks(result)


def test_opening_of_another_receipt_is_rejected() -> None:
    item = replace(HEALTHY.exchanged[0].item, openings=OTHER.exchanged[0].item.openings)
    refused(with_item(HEALTHY, item), Verdict.REJECTED, "REQUEST-BODY", "RESPONSE-BODY")


@pytest.mark.parametrize(("label", "id_"), [("fwd", "FORWARDED-BODY"), ("eng", "ENGINE-BODY")])
def test_opening_of_a_commitment_that_is_not_made_is_rejected(label: str, id_: str) -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    openings = Openings(keys={**item.openings.keys, label: bytes(32)})
    refused(with_item(HEALTHY, replace(item, openings=openings)), Verdict.REJECTED, id_)


def test_inserted_bytes_without_a_rewrite_are_rejected() -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    openings = replace(item.openings, inserted=(b"x",))
    refused(
        with_item(HEALTHY, replace(item, openings=openings)), Verdict.REJECTED, "FORWARDED-BODY"
    )


def test_request_that_was_not_read_to_its_end_is_bound_as_far_as_it_was() -> None:
    made = Gateway()
    part = REQUEST[:20]
    body = Body(digest=Digest.of(part), length=len(part))
    made.plain(request_partial=True, request=REQUEST)
    exchanged = made.exchanged.pop()
    item = made.seal(made.outcome(request=part, request_partial=True, end=End.LIMIT))
    made.exchanged.append(replace(exchanged, item=item))
    assert item.receipt.claims.request.length == body.length
    result = known(made)
    assert result.verdict is Verdict.SIMULATED
    assert "first 20 bytes" in the_check(result, "REQUEST-BODY").reason
    refused(known(made, request=REQUEST[:19]), Verdict.REJECTED, "REQUEST-BODY")


INSERTED = b',"cache_salt":"s"'


def spliced(**changes: Any) -> Gateway:
    made = Gateway()
    at = len(REQUEST) - 1
    forwarded = REQUEST[:at] + INSERTED + REQUEST[at:]
    values: dict[str, Any] = {
        "forwarded": Body(digest=Digest.of(forwarded), length=len(forwarded)),
        "splices": (Splice(code="cache_salt", offset=at, deleted=0, inserted=len(INSERTED)),),
        "inserted": (INSERTED,),
    }
    made.plain(**values | changes)
    return made


def test_forwarded_body_is_rebuilt_from_the_rewrites() -> None:
    result = spliced().verify()
    assert result.verdict is Verdict.SIMULATED
    assert "cache_salt" in the_check(result, "FORWARDED-BODY").reason


def test_rewrite_that_leads_to_another_body_is_rejected() -> None:
    wrong = (Splice(code="cache_salt", offset=3, deleted=0, inserted=len(INSERTED)),)
    refused(spliced(splices=wrong).verify(), Verdict.REJECTED, "FORWARDED-BODY")
    outside = (Splice(code="cache_salt", offset=900, deleted=0, inserted=len(INSERTED)),)
    refused(spliced(splices=outside).verify(), Verdict.REJECTED, "FORWARDED-BODY")


def opened(made: Gateway, openings: Openings) -> AttestationResult:
    return with_item(made, replace(made.exchanged[0].item, openings=openings))


def test_forwarded_body_needs_its_opening_the_inserted_bytes_and_the_request() -> None:
    made = spliced()
    openings = made.exchanged[0].item.openings
    assert openings is not None
    unopened = {name: key for name, key in openings.keys.items() if name != "fwd"}
    assert open_checks(opened(made, replace(openings, keys=unopened))) == {"FORWARDED-BODY"}
    assert open_checks(opened(made, replace(openings, inserted=()))) == {"FORWARDED-BODY"}
    assert open_checks(known(made, request=None)) == {"REQUEST-BODY", "FORWARDED-BODY"}
    refused(opened(made, replace(openings, inserted=(b"x",))), Verdict.REJECTED, "FORWARDED-BODY")


@pytest.mark.parametrize(
    ("end", "decision", "forwarded", "delivered"),
    [
        (End.COMPLETE, "allow", Status.PASS, Status.PASS),
        (End.CLIENT_ABORT, "allow", Status.PASS, Status.PASS),
        (End.UPSTREAM_ERROR, "allow", Status.PASS, Status.INFO),
        (End.TIMEOUT, "allow", Status.PASS, Status.INFO),
        (End.REFUSED, "refused_store", Status.INFO, Status.INFO),
        (End.GATEWAY_FAILURE, "undecided", Status.INFO, Status.INFO),
    ],
)
def test_gateways_own_answer_never_passes_for_the_engines(
    end: End, decision: str, forwarded: Status, delivered: Status
) -> None:
    made = Gateway()
    made.plain(end=end, decision=decision)
    result = known(made, demanded=frozenset({"FORWARDED-BODY", "ENGINE-BODY"}))
    assert result.verdict is Verdict.SIMULATED
    assert the_check(result, "FORWARDED-BODY").status is forwarded
    assert the_check(result, "ENGINE-BODY").status is delivered


def test_engines_own_bytes_are_checked_where_they_are_known() -> None:
    made = Gateway()
    made.plain(engine=ANSWER + b"tail")
    assert known(made).verdict is Verdict.SIMULATED
    assert the_check(known(made), "ENGINE-BODY").status is Status.PASS
    refused(known(made, engine=ANSWER), Verdict.REJECTED, "ENGINE-BODY")
    assert open_checks(known(made, engine=None)) == {"ENGINE-BODY"}
    assert known(made, engine=None, demanded=frozenset()).verdict is Verdict.SIMULATED


def stream(**changes: Any) -> tuple[Gateway, Exchanged]:
    made = Gateway()
    return made, made.stream(**changes)


def test_in_band_block_is_removed_exactly_where_it_stands() -> None:
    made, exchanged = stream()
    result = made.verify()
    assert result.verdict is Verdict.SIMULATED
    assert f"block at {len(FRAMES[0])}" in the_check(result, "RESPONSE-BODY").reason
    assert b": receipt " in exchanged.response


def test_stream_without_its_block_is_rejected() -> None:
    made, _ = stream()
    result = known(made, response=b"".join(FRAMES))
    refused(result, Verdict.REJECTED, "RESPONSE-BODY")
    assert "block" in the_check(result, "RESPONSE-BODY").hint


def test_block_that_withheld_openings_cannot_rebuild_has_to_be_taken_out() -> None:
    made, exchanged = stream()
    openings = exchanged.item.openings
    assert openings is not None
    item = replace(exchanged.item, openings=Openings(keys={"res": openings.keys["res"]}))
    bundle = made.bundle(receipts=[item])
    for response, status in ((b"".join(FRAMES), Status.PASS), (exchanged.response, Status.FAIL)):
        contents = {item.jti: Contents(response=response)}
        check = the_check(made.verify(bundle=bundle, contents=contents), "RESPONSE-BODY")
        assert check.status is status


def test_every_byte_of_the_block_counts() -> None:
    made, exchanged = stream()
    start = len(FRAMES[0])
    end = len(exchanged.response) - len(FRAMES[1])
    for place in {start, start + 12, end - 40, end - 1}:
        body = bytearray(exchanged.response)
        body[place] ^= 1
        refused(known(made, response=bytes(body)), Verdict.REJECTED, "RESPONSE-BODY")


def test_block_elsewhere_or_twice_is_rejected() -> None:
    made, exchanged = stream()
    body, start = exchanged.response, len(FRAMES[0])
    block = body[start : len(body) - len(FRAMES[1])]
    plain = b"".join(FRAMES)
    for moved in (block + plain, plain + block, body[:start] + block + body[start:]):
        refused(known(made, response=moved), Verdict.REJECTED, "RESPONSE-BODY")


def test_stream_without_openings_cannot_be_bound() -> None:
    made, exchanged = stream()
    result = with_item(made, replace(exchanged.item, openings=None))
    assert result.verdict is Verdict.INCOMPLETE
    assert "RESPONSE-BODY" in open_checks(result)


def gateway_failure() -> tuple[Gateway, Exchanged]:
    made = Gateway()
    outcome = replace(
        made.outcome(),
        request=None,
        response=None,
        end=End.GATEWAY_FAILURE,
        status=None,
        response_type=None,
    )
    exchanged = Exchanged(item=made.seal(outcome), request=REQUEST, response=ANSWER)
    made.exchanged.append(exchanged)
    return made, exchanged


def test_receipt_that_commits_to_no_body_cannot_bind_one() -> None:
    made, _ = gateway_failure()
    result = known(made)
    assert result.verdict is Verdict.INCOMPLETE
    assert {"REQUEST-BODY", "RESPONSE-BODY"} <= open_checks(result)
    assert made.verify(contents={}).verdict is Verdict.SIMULATED


@pytest.mark.parametrize(("label", "id_"), [("req", "REQUEST-BODY"), ("res", "RESPONSE-BODY")])
def test_openings_of_a_receipt_that_commits_to_no_body_are_rejected(label: str, id_: str) -> None:
    made, exchanged = gateway_failure()
    item = replace(exchanged.item, openings=Openings(keys={label: bytes(32)}))
    result = made.verify(bundle=made.bundle(receipts=[item]), contents={})
    refused(result, Verdict.REJECTED, id_)


def test_contents_do_not_show_in_a_repr() -> None:
    contents = Contents(request=b"prompt", response=b"answer", engine=b"engine")
    assert "prompt" not in repr(contents)
    assert "answer" not in repr(contents)
    assert "engine'" not in repr(contents)


# -- streams in padding --------------------------------------------------------------------

FILLING = filling(len(FRAMES[0]), 256)


def padded(
    engine: bytes = b"".join(FRAMES), *, frames: tuple[bytes, ...] = (FRAMES[0], FILLING, FRAMES[1])
) -> Gateway:
    made = Gateway()
    sent = Body(digest=Digest.of(engine), length=len(engine))
    made.stream(frames=frames, engine=sent, mods=("padded",))
    return made


def test_engines_bytes_are_found_below_the_padding() -> None:
    result = padded().verify()
    assert result.verdict is Verdict.SIMULATED
    check = the_check(result, "ENGINE-BODY")
    assert check.status is Status.PASS
    assert "with padding" in check.reason
    assert check.observed == f"{len(b''.join(FRAMES))} bytes"


def test_engines_bytes_below_the_padding_stay_open_where_more_was_changed() -> None:
    for made in (
        padded(b"".join(FRAMES) + b"tail"),
        padded(frames=(FRAMES[0], FRAMES[0], FRAMES[1])),
    ):
        assert open_checks(made.verify()) == {"ENGINE-BODY"}
        assert "more was changed" in the_check(made.verify(), "ENGINE-BODY").reason
        assert known(made, demanded=frozenset()).verdict is Verdict.SIMULATED


def test_padding_that_the_receipt_does_not_name_is_not_looked_for() -> None:
    made = Gateway()
    engine = b"".join(FRAMES)
    sent = Body(digest=Digest.of(engine), length=len(engine))
    made.stream(frames=(FRAMES[0], FILLING, FRAMES[1]), engine=sent, mods=("tail",))
    assert open_checks(made.verify()) == {"ENGINE-BODY"}


def test_padded_answer_whose_engine_bytes_are_known_is_checked_by_them() -> None:
    made = padded()
    assert the_check(known(made, engine=b"".join(FRAMES)), "ENGINE-BODY").status is Status.PASS
    refused(known(made, engine=FRAMES[0]), Verdict.REJECTED, "ENGINE-BODY")


def test_padded_answer_needs_its_opening_to_show_the_engines_bytes() -> None:
    made = padded()
    openings = made.exchanged[0].item.openings
    assert openings is not None
    item = replace(made.exchanged[0].item, openings=Openings(keys={"res": openings.keys["res"]}))
    frames = FRAMES[0] + FILLING + FRAMES[1]
    contents = {item.jti: Contents(response=frames, demanded=frozenset({"ENGINE-BODY"}))}
    result = made.verify(bundle=made.bundle(receipts=[item]), contents=contents)
    assert "ENGINE-BODY" in open_checks(result)
    assert "opening" in the_check(result, "ENGINE-BODY").reason


def test_release_on_a_tick_is_told() -> None:
    made = Gateway()
    made.stream(mods=("batched",))
    check = the_check(made.verify(), "ENGINE-BODY")
    assert check.status is Status.PASS
    assert "on a tick" in check.reason


def test_number_of_changes_to_a_request_is_told() -> None:
    assert the_check(spliced().verify(), "FORWARDED-BODY").reason == (
        "forwarded with 1 change: cache_salt"
    )
