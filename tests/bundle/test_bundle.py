from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.bundle import (
    MAX_BUNDLE_BYTES,
    Bundle,
    BundledReceipt,
    EpochEvidence,
    EventLogRecord,
    make_bundle,
    parse_bundle,
)
from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.statement import EpochStatement
from tests.refusals import refusal
from tests.support.bundles import Gateway

Change = Callable[[dict[str, Any]], None]


def gateway() -> Gateway:
    made = Gateway()
    made.plain()
    made.stream()
    made.anchored()
    return made


GATEWAY = gateway()
ENCODED = GATEWAY.bundle().encode()


def changed(change: Change) -> bytes:
    document = json.loads(ENCODED)
    change(document)
    return jcs.canonicalize(document)


def epoch_of(made: Gateway, number: int = 1, **changes: Any) -> EpochEvidence:
    zero = Digest(bytes(32))
    statement = EpochStatement(
        bootseed=made.bootseed,
        boot_quote_digest=made.quote_digest,
        keyset_digest=made.keyset.digest,
        epoch=number,
        size=3,
        root=zero,
        checkpoint_digest=zero,
        prev_quote_digest=made.quote_digest,
        grants_digest=zero,
        admitted=2,
        completed=2,
        in_flight=0,
        unauthenticated=0,
        refused_unreceipted=0,
        time_claimed=1,
    )
    text = Checkpoint(origin=made.origin, size=3, root=bytes(32)).text
    parts: dict[str, Any] = {
        "statement": statement,
        "quote": b"quote",
        "checkpoint": sign_note(text, made.origin, made.log_key),
    }
    return EpochEvidence(**parts | changes)


def test_bundle_is_read_back_as_it_was_written() -> None:
    bundle = parse_bundle(ENCODED)
    assert bundle == GATEWAY.bundle()
    assert bundle.encode() == ENCODED
    assert len(bundle.receipts) == 2
    assert all(item.proof for item in bundle.receipts)


def test_bundle_with_every_part_is_read_back_as_it_was_written() -> None:
    bundle = GATEWAY.bundle(
        epochs=[epoch_of(GATEWAY, 2), epoch_of(GATEWAY, 1, collateral=Digest.of(b"elsewhere"))],
        tasks=[item.receipt.token for item in GATEWAY.bundle().receipts],
    )
    assert [epoch.statement.epoch for epoch in bundle.epochs] == [1, 2]
    assert list(bundle.tasks) == sorted(bundle.tasks)
    assert parse_bundle(bundle.encode()) == bundle


def test_empty_bundle_has_a_form() -> None:
    assert parse_bundle(make_bundle().encode()) == Bundle()


def test_collateral_that_no_quote_names_is_left_out() -> None:
    other = Gateway(seed="b")
    bundle = make_bundle(
        boots=[GATEWAY.evidence],
        collateral=[GATEWAY.machine.collateral(), other.machine.collateral()],
    )
    assert list(bundle.collateral) == [GATEWAY.evidence.collateral]


def test_collateral_may_be_left_out_and_still_be_named() -> None:
    bundle = GATEWAY.bundle(collateral=[])
    assert bundle.boots[0].collateral is not None
    assert bundle.collateral == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b" " + ENCODED,
        ENCODED + b"\n",
        ENCODED[:-1],
        json.dumps(json.loads(ENCODED)).encode(),
        ENCODED.replace(b'"tasks":[]', b'"tasks":[],"tasks":[]'),
        ENCODED.replace(b'"tasks":[]', b'"tasks":[1.5]'),
    ],
)
def test_bytes_other_than_the_canonical_ones_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bundle(data)


def test_bundle_beyond_the_size_limit_is_refused_before_it_is_parsed() -> None:
    assert refusal(parse_bundle, b"{" * (MAX_BUNDLE_BYTES + 1)) == "size"


def drop(*path: str | int) -> Change:
    def change(document: dict[str, Any]) -> None:
        target: Any = document
        for step in path[:-1]:
            target = target[step]
        del target[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Change:
    def change(document: dict[str, Any]) -> None:
        target: Any = document
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


MEMBERS = [
    *((name,) for name in ("boots", "collateral", "epochs", "receipts", "schema", "tasks")),
    *(
        ("boots", 0, name)
        for name in ("collateral", "event_log", "gpu", "keyset", "quote", "statement")
    ),
    ("boots", 0, "event_log", "data"),
    ("boots", 0, "event_log", "format"),
    *(("receipts", 0, name) for name in ("openings", "proof", "receipt")),
]


@pytest.mark.parametrize("path", MEMBERS)
def test_missing_member_is_malformed(path: tuple[str | int, ...]) -> None:
    assert refusal(parse_bundle, changed(drop(*path))) == "missing_member"


@pytest.mark.parametrize("path", MEMBERS)
def test_member_of_another_type_is_malformed(path: tuple[str | int, ...]) -> None:
    with pytest.raises(MalformedError):
        parse_bundle(changed(put(7, *path)))


@pytest.mark.parametrize(
    "path",
    [("x",), ("boots", 0, "x"), ("boots", 0, "event_log", "x"), ("receipts", 0, "x")],
)
def test_unknown_member_is_malformed(path: tuple[str | int, ...]) -> None:
    assert refusal(parse_bundle, changed(put(1, *path))) == "unknown_member"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("attested-gateway/bundle/v2", "schema"), "member_value"),
        (put("ccel2", "boots", 0, "event_log", "format"), "member_value"),
        (put([], "boots", 0, "event_log"), "member_type"),
        (put("AAA=", "boots", 0, "quote"), "base64url"),
        (put(base64url.encode(bytes(16 * 1024 + 1)), "boots", 0, "quote"), "member_value"),
        (put("00", "boots", 0, "collateral"), "digest"),
        (put([1], "boots", 0, "gpu"), "member_type"),
        (put([{}] * 65, "boots", 0, "gpu"), "member_value"),
        (put([1], "tasks"), "member_type"),
        (put(["a.b"], "tasks"), "jws"),
        (put("x", "receipts", 0, "receipt"), "jws"),
        (put({"nope": 1}, "receipts", 0, "openings"), "unknown_member"),
        (put("no proof", "receipts", 0, "proof"), "tlog_proof"),
        (put({}, "epochs"), "member_type"),
        (put([{}], "epochs"), "missing_member"),
        (put({}, "collateral", "00" * 32), "missing_member"),
    ],
)
def test_malformed_parts_are_refused(change: Change, code: str) -> None:
    assert refusal(parse_bundle, changed(change)) == code


def test_message_names_the_place() -> None:
    with pytest.raises(MalformedError, match=r"bundle\.receipts\[1\]"):
        parse_bundle(changed(put(1, "receipts", 1, "x")))


def test_collateral_under_another_digest_is_refused() -> None:
    def rename(document: dict[str, Any]) -> None:
        sets = document["collateral"]
        (name,) = sets
        sets["00" * 32] = sets.pop(name)

    assert refusal(parse_bundle, changed(rename)) == "collateral_digest"


def test_collateral_whose_text_was_touched_is_refused() -> None:
    def touch(document: dict[str, Any]) -> None:
        (collateral,) = document["collateral"].values()
        collateral["tcb_info"] = collateral["tcb_info"].replace("UpToDate", "UpToDat3")

    assert refusal(parse_bundle, changed(touch)) == "collateral_digest"


def test_unused_collateral_is_refused() -> None:
    assert refusal(parse_bundle, changed(put(None, "boots", 0, "collateral"))) == (
        "unused_collateral"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["receipts"].reverse(),
        lambda d: d["receipts"].append(d["receipts"][-1]),
        lambda d: d["boots"].append(d["boots"][0]),
        lambda d: d["tasks"].extend([d["receipts"][0]["receipt"]] * 2),
    ],
)
def test_arrays_out_of_order_or_with_duplicates_are_refused(change: Change) -> None:
    assert refusal(parse_bundle, changed(change)) == "order"


@pytest.mark.parametrize("array", ["boots", "receipts", "tasks"])
def test_refusal_of_an_order_names_the_array(array: str) -> None:
    token = GATEWAY.bundle().receipts[0].receipt.jws.token

    def twice(document: dict[str, Any]) -> None:
        document[array] = (document[array] or [token]) * 2

    with pytest.raises(MalformedError, match=rf"\b{array}\b"):
        parse_bundle(changed(twice))


def test_epochs_out_of_order_are_refused() -> None:
    epochs = (epoch_of(GATEWAY, 2), epoch_of(GATEWAY, 1))
    assert refusal(Bundle, epochs=epochs) == "order"


def test_bundle_made_by_hand_keeps_the_same_rules() -> None:
    assert refusal(Bundle, boots=(GATEWAY.evidence,) * 2) == "order"
    collateral = GATEWAY.machine.collateral()
    assert refusal(Bundle, collateral={Digest.of(b""): collateral}) == "collateral_digest"


def test_epoch_with_a_checkpoint_that_is_no_note_is_refused() -> None:
    bundle = GATEWAY.bundle(epochs=[epoch_of(GATEWAY)])
    document = bundle.to_json()
    document["epochs"][0]["checkpoint"] = "text"
    assert refusal(parse_bundle, jcs.canonicalize(document)) == "note"


def test_epoch_with_a_note_that_is_no_checkpoint_is_refused() -> None:
    note = sign_note("no checkpoint\n", GATEWAY.origin, GATEWAY.log_key)
    epochs = (epoch_of(GATEWAY, checkpoint=note),)
    assert refusal(parse_bundle, Bundle(epochs=epochs).encode()) == "checkpoint"


def test_proof_with_bytes_that_nothing_signs_is_refused() -> None:
    proof = GATEWAY.exchanged[0].item.proof
    assert proof is not None
    extra = proof.replace("@v1\n", "@v1\nextra AAAA\n")
    assert refusal(parse_bundle, changed(put(extra, "receipts", 0, "proof"))) == "proof_extra"


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (EventLogRecord(format="ccel", data=[]), "event_log"),
        (EventLogRecord(format="ccel", data="!"), "base64url"),
        (EventLogRecord(format="dstack", data="x"), "event_log"),
        (EventLogRecord(format="attested-gateway", data="x"), "event_log"),
        (EventLogRecord(format="attested-gateway", data=[{}]), "missing_member"),
    ],
)
def test_malformed_event_logs_are_refused(record: EventLogRecord, code: str) -> None:
    assert refusal(record.parse) == code
    document = put(record.to_json(), "boots", 0, "event_log")
    assert refusal(parse_bundle, changed(document)) == code


def test_ccel_bytes_must_be_a_ccel_log() -> None:
    with pytest.raises(MalformedError):
        EventLogRecord(format="ccel", data=base64url.encode(bytes(80))).parse()


def test_event_logs_of_other_makers_are_read() -> None:
    event = {
        "imr": 3,
        "event_type": 1,
        "digest": "00" * 48,
        "event": "app-id",
        "event_payload": "",
    }
    log = EventLogRecord(format="dstack", data=[event]).parse()
    assert log.events[0].name == "app-id"


def test_contradicting_receipts_can_stand_in_one_bundle() -> None:
    made = Gateway(seed="two")
    made.plain()
    made.plain(request=b"{}", context={"index": 1})
    bundle = made.bundle()
    assert [item.receipt.claims.log.index for item in bundle.receipts] == [1, 1]


def test_openings_and_bodies_do_not_show_in_a_repr() -> None:
    item = GATEWAY.exchanged[0].item
    assert item.openings is not None
    key = item.openings.keys["req"]
    assert repr(key) not in repr(item)
    assert isinstance(item, BundledReceipt)


@given(st.binary(max_size=300))
def test_no_other_exception_leaves_the_parser(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bundle(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.data())
def test_any_value_in_any_place_is_malformed_or_read_back(data: st.DataObject) -> None:
    document = json.loads(ENCODED)
    target: Any = document
    while True:
        step = data.draw(
            st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target)))
        )
        child = target[step]
        if not isinstance(child, (dict, list)) or not child or data.draw(st.booleans()):
            break
        target = child
    target[step] = data.draw(JSON_VALUES)
    encoded = jcs.canonicalize(document)
    try:
        bundle = parse_bundle(encoded)
    except MalformedError:
        return
    assert bundle.encode() == encoded


def test_optional_parts_of_a_boot_are_read_back() -> None:
    boot = replace(GATEWAY.evidence, event_log=None, collateral=None, gpu=({"a": 1}, {}))
    bundle = make_bundle(boots=[boot])
    assert parse_bundle(bundle.encode()) == bundle
    assert b'"event_log":null' in bundle.encode()
