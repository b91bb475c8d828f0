"""Collateral: nine members, closed, in two spellings; the text stays as it was signed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.encoding.jcs import canonicalize
from attestation.tdx.collateral import (
    MAX_CRL,
    MAX_TEXT,
    Collateral,
    parse_collateral,
    parse_dcap_collateral,
)
from tests.refusals import refusal
from tests.tdx import bench

GOOD = bench.collateral()
BINARY = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
TEXTS = (
    "pck_crl_issuer_chain", "tcb_info_issuer_chain", "tcb_info", "qe_identity_issuer_chain",
    "qe_identity",
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def hexadecimal(**changes: Any) -> bytes:
    """The healthy set in dcap-qvl's spelling, with some members replaced."""
    members: dict[str, Any] = {name: getattr(GOOD, name) for name in BINARY + TEXTS}
    members |= {name: members[name].hex() for name in BINARY}
    return json.dumps(members | changes).encode()


def bundled(**changes: Any) -> dict[str, Any]:
    return {**GOOD.to_json(), **changes}


def test_both_spellings_are_read_back() -> None:
    assert parse_collateral(GOOD.to_json()) == GOOD
    assert parse_dcap_collateral(hexadecimal()) == GOOD
    assert parse_dcap_collateral(hexadecimal(pck_crl=GOOD.pck_crl.hex().upper())) == GOOD


def test_texts_are_kept_exactly() -> None:
    text = '{"b": 1,\r\n "a":\t[]}'
    assert parse_collateral(bundled(tcb_info=text)).tcb_info == text
    assert parse_dcap_collateral(hexadecimal(qe_identity=text)).qe_identity == text


def test_digest_is_that_of_the_canonical_bundle_form() -> None:
    expected = hashlib.sha256(canonicalize(dict(GOOD.to_json()))).hexdigest()
    assert GOOD.digest.hex == expected
    assert parse_collateral(bundled(tcb_info="x")).digest != GOOD.digest


def test_empty_issuer_chain_of_the_revocation_list_is_allowed() -> None:
    assert parse_collateral(bundled(pck_crl_issuer_chain="")).pck_crl_issuer_chain == ""


def test_chain_that_the_file_wants_to_impose_is_dropped() -> None:
    parsed = parse_dcap_collateral(hexadecimal(pck_certificate_chain="anything"))
    assert parsed == GOOD
    assert refusal(parse_collateral, bundled(pck_certificate_chain="x")) == "unknown_member"


@pytest.mark.parametrize("name", BINARY + TEXTS)
def test_missing_member_is_refused(name: str) -> None:
    members = bundled()
    del members[name]
    assert refusal(parse_collateral, members) == "missing_member"


@pytest.mark.parametrize("name", BINARY + TEXTS)
@pytest.mark.parametrize("value", [None, 1, [], {}, True])
def test_member_of_another_type_is_refused(name: str, value: object) -> None:
    assert refusal(parse_collateral, bundled(**{name: value})) == "member_type"
    assert refusal(parse_dcap_collateral, hexadecimal(**{name: value})) == "member_type"


def test_unknown_member_is_refused() -> None:
    assert refusal(parse_collateral, bundled(extra="")) == "unknown_member"
    assert refusal(parse_dcap_collateral, hexadecimal(extra="")) == "unknown_member"


@pytest.mark.parametrize("name", ["tcb_info_signature", "qe_identity_signature"])
@pytest.mark.parametrize("size", [0, 63, 65])
def test_signature_of_another_length_is_refused(name: str, size: int) -> None:
    value = base64url.encode(bytes(size))
    assert refusal(parse_collateral, bundled(**{name: value})) == "member_value"
    value = bytes(size).hex()
    assert refusal(parse_dcap_collateral, hexadecimal(**{name: value})) == "member_value"


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", ["=", "A", "AA==", "+/+/"])
def test_binary_in_another_alphabet_is_refused(name: str, value: str) -> None:
    assert refusal(parse_collateral, bundled(**{name: value})) == "base64url"


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("value", ["0", "0g", "0x00", " 00", "00 00", "\u0660\u0660"])
def test_binary_that_is_no_hexadecimal_is_refused(name: str, value: str) -> None:
    assert refusal(parse_dcap_collateral, hexadecimal(**{name: value})) == "member_value"


@pytest.mark.parametrize("name", TEXTS)
def test_oversized_text_is_refused(name: str) -> None:
    assert getattr(parse_collateral(bundled(**{name: "x" * MAX_TEXT})), name) == "x" * MAX_TEXT
    assert refusal(parse_collateral, bundled(**{name: "x" * (MAX_TEXT + 1)})) == "member_value"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_oversized_revocation_list_is_refused(name: str) -> None:
    largest, larger = bytes(MAX_CRL), bytes(MAX_CRL + 1)
    good = parse_collateral(bundled(**{name: base64url.encode(largest)}))
    assert getattr(good, name) == largest
    code = refusal(parse_collateral, bundled(**{name: base64url.encode(larger)}))
    assert code == "member_value"
    assert getattr(parse_dcap_collateral(hexadecimal(**{name: largest.hex()})), name) == largest
    code = refusal(parse_dcap_collateral, hexadecimal(**{name: larger.hex()}))
    assert code == "member_value"


@pytest.mark.parametrize("name", TEXTS)
def test_text_with_half_a_character_is_refused(name: str) -> None:
    assert refusal(parse_collateral, bundled(**{name: "\ud800"})) == "member_value"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 1000])
def test_file_that_is_no_object_is_refused(data: bytes) -> None:
    assert bench.outcome(parse_dcap_collateral, data) != "accepted"


def test_oversized_file_is_refused() -> None:
    assert refusal(parse_dcap_collateral, hexadecimal() + b" " * (2 << 20)) == "size"


@given(json_values)
def test_arbitrary_json_is_refused(value: Any) -> None:
    assert bench.outcome(parse_collateral, value) in ("member_type", "missing_member")


@given(st.sampled_from(BINARY + TEXTS), json_values)
def test_arbitrary_member_is_read_or_refused(name: str, value: Any) -> None:
    outcome = bench.outcome(parse_collateral, bundled(**{name: value}))
    assert outcome in ("accepted", "member_type", "member_value", "base64url")


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    assert bench.outcome(parse_dcap_collateral, data) != "accepted"


def test_limits_are_those_of_the_documentation() -> None:
    assert (MAX_TEXT, MAX_CRL) == (262_144, 262_144)
    assert bench.outcome(parse_dcap_collateral, b" " * (2 << 20)) == "syntax"


def test_set_is_a_plain_value() -> None:
    assert Collateral(**{name: getattr(GOOD, name) for name in BINARY + TEXTS}) == GOOD
