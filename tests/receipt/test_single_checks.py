"""Checks that another one would hide: each is the only thing between a forgery and a pass."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.encoding import base64url
from attestation.receipt import signing
from attestation.receipt.claims import End
from attestation.receipt.claims_parser import parse_claims
from attestation.receipt.commitments import LABELS, parse_openings
from tests.receipt.support import payload
from tests.refusals import refusal
from tests.support.bundles import Gateway

SHORT, LONG = base64url.encode(bytes(31)), base64url.encode(bytes(33))
WHOLE = base64url.encode(bytes(32))


def with_response(end: End = End.COMPLETE, **members: Any) -> dict[str, Any]:
    document = payload(end=end)
    document["res"] |= members
    return document


def test_response_with_a_commitment_has_a_length() -> None:
    document = with_response()
    del document["res"]["len"]
    assert refusal(parse_claims, document) == "claims"


def test_response_without_a_commitment_has_no_length() -> None:
    document = with_response(End.GATEWAY_FAILURE)
    document["res"].pop("c", None)
    document["res"]["len"] = 3
    assert refusal(parse_claims, document) == "claims"


@pytest.mark.parametrize("value", [SHORT, LONG])
@pytest.mark.parametrize(("part", "name"), [("req", "c"), ("res", "c"), ("res", "u")])
def test_commitment_has_32_bytes(part: str, name: str, value: str) -> None:
    document = payload()
    document[part][name] = value
    assert refusal(parse_claims, document) == "base64url"


@pytest.mark.parametrize("value", [SHORT, LONG])
def test_key_of_an_opening_has_32_bytes(value: str) -> None:
    assert parse_openings({LABELS[0]: WHOLE}).keys == {LABELS[0]: bytes(32)}
    assert refusal(parse_openings, {LABELS[0]: value}) == "base64url"


def test_request_that_was_read_whole_does_not_say_that_it_was_not_partial() -> None:
    document = payload()
    document["req"]["part"] = False
    assert refusal(parse_claims, document) == "claims"


@pytest.mark.parametrize("pair", [{"d": 1, WHOLE: 2}, "dd", ["d", WHOLE, "d"], ["d", 5]])
def test_parent_is_a_list_of_two_texts(pair: object) -> None:
    document = payload()
    document["lin"]["par"] = [["d", WHOLE]]
    assert len(parse_claims(document).lineage.parents) == 1
    document["lin"]["par"] = [pair]
    assert refusal(parse_claims, document) == "claims"


def test_receipt_is_bounded_before_anything_of_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    token = Gateway().plain().item.receipt.token
    monkeypatch.setattr(signing, "MAX_TOKEN_BYTES", len(token))
    assert signing.parse_receipt(token).token == token
    monkeypatch.setattr(signing, "MAX_TOKEN_BYTES", len(token) - 1)
    assert refusal(signing.parse_receipt, token) == "size"
