from __future__ import annotations

import json
from typing import Any

import pytest

from attestation.bundle import parse_bundle, parse_evidence
from attestation.errors import MalformedError
from tests.refusals import refusal
from tests.support.bundles import Gateway

GATEWAY = Gateway()
GATEWAY.plain()
GATEWAY.anchored()
ITEM = GATEWAY.exchanged[0].item


def answer(**changes: Any) -> bytes:
    assert ITEM.openings is not None
    document = {
        "openings": ITEM.openings.to_json(),
        "proof": ITEM.proof,
        "receipt": ITEM.receipt.token,
        "state": "sealed",
    } | changes
    return json.dumps({k: v for k, v in document.items() if v != "absent"}, indent=1).encode()


def test_receipt_by_itself_is_a_bundle_without_boots() -> None:
    bundle = parse_evidence(f" {ITEM.receipt.token}\r\n".encode())
    assert bundle.boots == ()
    assert [item.jti for item in bundle.receipts] == [ITEM.jti]
    assert bundle.receipts[0].openings is None


def test_gateways_answer_keeps_openings_and_proof() -> None:
    assert parse_evidence(answer()).receipts == (ITEM,)


@pytest.mark.parametrize("member", ["openings", "proof"])
@pytest.mark.parametrize("value", [None, "absent"])
def test_openings_and_proof_of_an_answer_may_be_null_or_absent(member: str, value: Any) -> None:
    (item,) = parse_evidence(answer(**{member: value})).receipts
    assert getattr(item, member) is None


def test_state_of_an_answer_may_be_absent() -> None:
    assert parse_evidence(answer(state="absent")).receipts == (ITEM,)


@pytest.mark.parametrize("state", ["sealed", "anchored", "unanchored-final"])
def test_every_state_of_a_receipt_is_known(state: str) -> None:
    assert parse_evidence(answer(state=state)).receipts == (ITEM,)


def test_bundle_without_boots_is_refused_as_a_bundle() -> None:
    whole = json.loads(GATEWAY.bundle().encode())
    bare = json.dumps({name: value for name, value in whole.items() if name != "boots"})
    assert refusal(parse_evidence, bare.encode()) == refusal(parse_bundle, bare.encode())
    assert refusal(parse_evidence, bare.encode()) != "unknown_file"


def test_bundle_is_read_as_one() -> None:
    assert parse_evidence(GATEWAY.bundle().encode()) == GATEWAY.bundle()


def test_bundle_with_a_damaged_schema_is_judged_as_a_bundle() -> None:
    data = GATEWAY.bundle().encode().replace(b"bundle/v1", b"bundle/v9")
    assert refusal(parse_evidence, data) == "member_value"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (answer(state="lost"), "member_value"),
        (answer(extra=1), "unknown_member"),
        (answer(receipt="absent"), "unknown_file"),
        (answer(receipt=1), "member_type"),
        (answer(openings=1), "member_type"),
        (answer(proof="x"), "tlog_proof"),
        (answer().replace(b'"state"', b'"receipt"'), "duplicate_member"),
        (b"{}", "unknown_file"),
        (b"", "unknown_file"),
        (b"\x04\x00\x02\x00", "unknown_file"),
        (b"a.b", "unknown_file"),
        (b"a.b.c.d", "unknown_file"),
        (b"..", "syntax"),
        (b"\xff.a.b", "unknown_file"),
        (ITEM.receipt.token.encode() + b" x", "jws"),
    ],
)
def test_anything_else_is_malformed(data: bytes, code: str) -> None:
    with pytest.raises(MalformedError):
        parse_evidence(data)
    if code not in ("jws", "syntax"):
        assert refusal(parse_evidence, data) == code


def test_hint_for_a_quote_names_the_right_command() -> None:
    for quote in (GATEWAY.evidence.quote, GATEWAY.evidence.quote + b".."):
        with pytest.raises(MalformedError, match="attested quote"):
            parse_evidence(quote)


def test_empty_file_is_called_empty() -> None:
    with pytest.raises(MalformedError, match="the file is empty"):
        parse_evidence(b" \n")


def test_gateways_answer_about_its_boot_names_the_bundle_to_ask_for() -> None:
    data = b'{"boot":{},"schema":"attested-gateway/attestation/v1"}'
    with pytest.raises(MalformedError, match=r"attestation\?format=bundle"):
        parse_evidence(data)


def test_a_large_file_that_is_no_bundle_is_called_that_and_not_too_large_for_an_answer() -> None:
    data = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    with pytest.raises(MalformedError, match=r"neither a bundle nor a receipt.*member boots"):
        parse_evidence(data)
