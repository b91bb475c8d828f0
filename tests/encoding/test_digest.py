"""Digests are 32 bytes with one hexadecimal and one base64url form."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from tests.refusals import refusal


@given(st.binary(max_size=100))
def test_digest_survives_both_forms(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest.value == hashlib.sha256(data).digest()
    assert Digest.from_hex(digest.hex) == digest
    assert Digest.from_base64url(digest.base64url) == digest


@pytest.mark.parametrize("length", [0, 20, 31, 33, 48, 64])
def test_digest_of_another_length_is_rejected(length: int) -> None:
    assert refusal(Digest, bytes(length)) == "digest"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("a" * 63, id="one short"),
        pytest.param("a" * 65, id="one long"),
        pytest.param("A" * 64, id="upper case"),
        pytest.param("a" * 64 + "\n", id="final newline"),
        pytest.param("0x" + "a" * 62, id="prefix"),
        pytest.param("g" * 64, id="no hex digit"),
        pytest.param("٣" * 64, id="digits of another script"),
        pytest.param(" " + "a" * 63, id="leading space"),
    ],
)
def test_hex_in_another_spelling_is_rejected(text: str) -> None:
    assert refusal(Digest.from_hex, text) == "digest"


def test_refusal_says_which_digest() -> None:
    for read in (Digest.from_hex, Digest.from_base64url):
        with pytest.raises(MalformedError, match=r"^digest "):
            read("!")
        with pytest.raises(MalformedError, match=r"^the keyset's digest "):
            read("!", what="the keyset's digest")


def test_base64url_of_another_length_is_rejected() -> None:
    assert refusal(Digest.from_base64url, "A" * 42) == "base64url"
    assert refusal(Digest.from_base64url, "A" * 44) == "base64url"


def test_shown_form_is_shortened_and_says_which_hash() -> None:
    digest = Digest.of(b"")
    assert str(digest) == f"sha256:{digest.hex[:16]}…"
