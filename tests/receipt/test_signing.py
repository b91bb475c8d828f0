"""A receipt has one spelling and one signer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.receipt.claims import ReceiptClaims
from attestation.receipt.fitting import PARENTS_THAT_ALWAYS_FIT, fit_claims
from attestation.receipt.outcome import ModelFacts
from attestation.receipt.seal import claims_of
from attestation.receipt.signing import (
    MAX_TOKEN_BYTES,
    parse_receipt,
    sign_receipt,
    verify_receipt_signature,
)
from tests.receipt.support import (
    context,
    key_of,
    largest_context,
    largest_outcome,
    outcome,
    private_key,
)

PRIVATE = private_key(1)
KEY = key_of(PRIVATE)
HEADER = {"alg": "EdDSA", "kid": KEY.kid, "typ": "inference-receipt+jwt"}


def claims() -> ReceiptClaims:
    return claims_of(outcome(), context())[0]


def token() -> str:
    return sign_receipt(claims(), PRIVATE, KEY.kid)


def resigned(header: bytes, payload: bytes) -> str:
    """A token whose signature is right, whatever its parts say."""
    signing_input = base64url.encode(header) + "." + base64url.encode(payload)
    return signing_input + "." + base64url.encode(PRIVATE.sign(signing_input.encode()))


def with_header(**changes: Any) -> str:
    header = {name: value for name, value in (HEADER | changes).items() if value is not None}
    return resigned(jcs.canonicalize(header), jcs.canonicalize(claims().to_json()))


def test_signed_receipt_is_read_back_and_accepted() -> None:
    receipt = parse_receipt(token())
    assert receipt.claims == claims()
    assert (receipt.kid, receipt.token) == (KEY.kid, token())
    verify_receipt_signature(receipt, KEY)


def test_receipt_digest_covers_the_signing_input_only() -> None:
    receipt = parse_receipt(token().encode())
    signing_input, _, signature = token().rpartition(".")
    assert receipt.digest == Digest.of(signing_input.encode())
    other = signing_input + "." + base64url.encode(bytes(64))
    assert other != f"{signing_input}.{signature}"
    assert parse_receipt(other).digest == receipt.digest


def test_header_is_exactly_three_members() -> None:
    header = json.loads(base64url.decode(token().split(".")[0]))
    assert header == HEADER


def test_algorithm_may_be_named_by_its_curve() -> None:
    receipt = parse_receipt(with_header(alg="Ed25519"))
    verify_receipt_signature(receipt, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "none"},
        {"alg": "ES256"},
        {"alg": "HS256"},
        {"alg": "eddsa"},
        {"alg": None},
        {"typ": "JWT"},
        {"typ": "application/inference-receipt+jwt"},
        {"typ": None},
        {"kid": None},
        {"kid": "short"},
        {"kid": "!" * 43},
        {"jwk": {"kty": "OKP"}},
        {"crit": ["exp"]},
        {"zip": "DEF"},
        {"b64": False},
        {"x5u": "https://example.com"},
    ],
)
def test_header_that_is_not_ours_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse_receipt(with_header(**changes))


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda data: data.replace(b":", b": ", 1),
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data.replace(b'"k', b'"\\u006b', 1),
        lambda data: json.dumps(dict(reversed(json.loads(data).items()))).encode(),
        lambda data: data[:-1] + b',"iss":"gateway.example"}',
    ],
)
def test_signed_receipt_in_another_spelling_is_refused(rewrite: Any) -> None:
    header, payload = jcs.canonicalize(HEADER), jcs.canonicalize(claims().to_json())
    parse_receipt(resigned(header, payload))
    for parts in ((rewrite(header), payload), (header, rewrite(payload))):
        with pytest.raises(MalformedError):
            parse_receipt(resigned(*parts))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text + ".",
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(".", "..", 1),
        lambda text: text.rpartition(".")[0],
        lambda text: text.rpartition(".")[0] + ".",
        lambda text: text[:-2],
        lambda text: "é" + text,
        lambda text: text + "A" * MAX_TOKEN_BYTES,
        lambda text: text[:0],
    ],
)
def test_token_that_is_no_compact_jws_is_refused(spoil: Any) -> None:
    with pytest.raises(MalformedError):
        parse_receipt(spoil(token()))


def test_receipt_signed_by_another_key_is_rejected() -> None:
    stranger = private_key(2)
    receipt = parse_receipt(sign_receipt(claims(), stranger, KEY.kid))
    with pytest.raises(EvidenceError) as rejected:
        verify_receipt_signature(receipt, KEY)
    assert rejected.value.code == "signature"


def test_receipt_that_names_another_key_is_rejected() -> None:
    receipt = parse_receipt(token())
    with pytest.raises(EvidenceError) as rejected:
        verify_receipt_signature(receipt, key_of(private_key(2)))
    assert rejected.value.code == "kid"


@given(st.integers(0), st.integers(0, 7))
def test_any_flipped_bit_is_refused_or_rejected(position: int, bit: int) -> None:
    data = bytearray(token().encode())
    data[position % len(data)] ^= 1 << bit
    with pytest.raises((MalformedError, EvidenceError)):
        verify_receipt_signature(parse_receipt(bytes(data)), KEY)


def test_signature_with_a_scalar_beyond_the_group_order_is_rejected() -> None:
    signing_input, _, signature = token().rpartition(".")
    raw = base64url.decode(signature)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(raw[32:], "little") + order
    malleated = raw[:32] + scalar.to_bytes(32, "little")
    receipt = parse_receipt(signing_input + "." + base64url.encode(malleated))
    with pytest.raises(EvidenceError):
        verify_receipt_signature(receipt, KEY)


@given(st.binary(max_size=120) | st.text(max_size=60))
def test_only_malformed_error_escapes_the_parser(data: bytes | str) -> None:
    with pytest.raises(MalformedError):
        parse_receipt(data)


@pytest.mark.parametrize("parents", range(17))
def test_largest_receipt_fits_its_four_kibibytes(parents: int) -> None:
    largest, _ = claims_of(largest_outcome(parents), largest_context())
    receipt = parse_receipt(sign_receipt(largest, PRIVATE, KEY.kid))
    assert len(receipt.token) <= MAX_TOKEN_BYTES
    assert len(receipt.claims.lineage.parents) == parents


def test_nothing_is_left_out_of_a_receipt_with_few_parents() -> None:
    told = largest_outcome(PARENTS_THAT_ALWAYS_FIT)
    largest, _ = claims_of(told, largest_context())
    assert (largest.attempts, largest.usage) == (told.attempts, told.usage)
    assert largest.response.finish_reasons == told.finish_reasons


def test_what_does_not_fit_is_left_out_in_the_documented_order() -> None:
    served = [
        claims_of(largest_outcome(parents), largest_context())[0].to_json() for parents in range(17)
    ]
    gone = [
        (
            len(document["att"]) < 3,
            document["model"]["served"] is None,
            document["res"]["fin"] == ["error"],
            "use" not in document,
            document["model"]["eng"] is None,
            document["req"]["ct"] is None and document["res"]["ct"] is None,
            not document["att"],
        )
        for document in served
    ]
    assert gone == sorted(gone)
    assert all(list(row) == sorted(row, reverse=True) for row in gone)
    assert gone[0] == (False,) * 7
    assert gone[-1] == (True,) * 7


def test_ordinary_receipt_with_all_parents_loses_nothing() -> None:
    told = outcome(lineage=largest_outcome().lineage, model=ModelFacts(id="tiny", served="tiny"))
    sealed, _ = claims_of(told, context())
    assert fit_claims(sealed) is sealed
    assert (sealed.model.served, sealed.response.content_type) == ("tiny", "application/json")


def test_claims_that_do_not_fit_are_not_signed() -> None:
    huge = replace(claims(), issuer="x" * 4096)
    with pytest.raises(MalformedError) as refused:
        sign_receipt(huge, PRIVATE, KEY.kid)
    assert refused.value.code == "size"


def test_token_of_exactly_the_limit_is_signed_and_read() -> None:
    spare = MAX_TOKEN_BYTES - len(token())
    sizes = []
    for padding in range(spare * 3 // 4 - 3, spare * 3 // 4 + 4):
        padded = replace(claims(), issuer=claims().issuer + "x" * padding)
        try:
            signed = sign_receipt(padded, PRIVATE, KEY.kid)
        except MalformedError:
            continue
        sizes.append(len(signed))
        with pytest.raises(MalformedError) as refused:
            parse_receipt(signed)
        assert refused.value.code == "member_value"
    assert max(sizes) == MAX_TOKEN_BYTES
