"""Commitments open with the right key and body and with nothing else."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.receipt.commitments import (
    LABELS,
    Openings,
    commit,
    commitment_key,
    parse_openings,
    parse_openings_header,
    verify_commitment,
)
from tests.receipt.support import BOOT_SECRET, JTI

KEY = base64url.encode(bytes(range(32)))


def test_commitment_is_the_documented_hmac() -> None:
    key = hmac.new(
        BOOT_SECRET, b"attested-gateway/commit/v1/req/" + JTI.encode(), hashlib.sha256
    ).digest()
    assert commitment_key(BOOT_SECRET, "req", JTI) == key
    expected = hmac.new(key, hashlib.sha256(b"body").digest(), hashlib.sha256).digest()
    assert commit(key, Digest.of(b"body")) == expected


def test_labels_are_the_documented_ones() -> None:
    assert LABELS == ("req", "fwd", "eng", "res")


def test_every_label_receipt_and_boot_has_its_own_key() -> None:
    keys = {
        commitment_key(secret, label, jti)
        for secret in (BOOT_SECRET, b"another")
        for label in LABELS
        for jti in (JTI, "f" * 32)
    }
    assert len(keys) == 16


def test_commitment_opens_to_its_body() -> None:
    key = commitment_key(BOOT_SECRET, "res", JTI)
    verify_commitment(commit(key, Digest.of(b"a")), key, Digest.of(b"a"), what="the response")


@pytest.mark.parametrize(
    ("key", "body"),
    [
        (commitment_key(BOOT_SECRET, "res", JTI), b"b"),
        (commitment_key(BOOT_SECRET, "res", JTI), b""),
        (commitment_key(BOOT_SECRET, "req", JTI), b"a"),
        (bytes(32), b"a"),
    ],
)
def test_commitment_does_not_open_to_anything_else(key: bytes, body: bytes) -> None:
    made = commit(commitment_key(BOOT_SECRET, "res", JTI), Digest.of(b"a"))
    with pytest.raises(EvidenceError) as rejected:
        verify_commitment(made, key, Digest.of(body), what="the response")
    assert rejected.value.code == "commitment"


@given(
    st.dictionaries(st.sampled_from(LABELS), st.binary(min_size=32, max_size=32)),
    st.lists(st.binary(max_size=80), max_size=2),
)
def test_openings_survive_both_forms(keys: dict[str, bytes], inserted: list[bytes]) -> None:
    openings = Openings(keys=keys, inserted=tuple(inserted))
    assert parse_openings(openings.to_json()) == openings
    assert parse_openings_header(openings.encode_header()) == openings


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"req": None},
        {"req": "short"},
        {"req": KEY + "="},
        {"fwD": KEY},
        {"salt": KEY},
        {"ins": []},
        {"ins": None},
        {"ins": [1]},
        {"ins": ["!"]},
        {"ins": ["AA"] * 5},
        {"ins": [base64url.encode(bytes(513))]},
    ],
)
def test_openings_in_another_form_are_refused(value: Any) -> None:
    with pytest.raises(MalformedError):
        parse_openings(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{ "req":"' + KEY.encode() + b'"}',
        b'{"res":"' + KEY.encode() + b'","req":"' + KEY.encode() + b'"}',
        b'{"req":"' + KEY.encode() + b'","req":"' + KEY.encode() + b'"}',
    ],
)
def test_openings_header_that_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_openings_header(base64url.encode(data))


def test_openings_header_is_bounded() -> None:
    with pytest.raises(MalformedError) as refused:
        parse_openings_header("A" * 4097)
    assert refused.value.code == "size"


@given(st.text(max_size=60))
def test_only_malformed_error_escapes_the_header_parser(text: str) -> None:
    if text == "e30":
        return
    with pytest.raises(MalformedError):
        parse_openings_header(text)


def test_keys_and_inserted_bytes_never_show_in_a_representation() -> None:
    openings = Openings(keys={"req": b"k" * 32}, inserted=(b"salt of a tenant",))
    shown = repr(openings) + str(openings)
    assert "kkk" not in shown
    assert "salt" not in shown
