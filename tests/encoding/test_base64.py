"""Both base64 alphabets: one text for one byte string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64std, base64url
from attestation.errors import MalformedError
from tests.refusals import refusal

ANY_TEXT = st.text(alphabet="AQg-_+/=\n é9z", max_size=12)


@given(st.binary(max_size=80))
def test_bytes_survive_base64url_and_its_text_has_no_padding(data: bytes) -> None:
    text = base64url.encode(data)
    assert "=" not in text
    assert base64url.decode(text) == data
    assert base64url.decode(text, length=len(data)) == data


@given(st.binary(max_size=80))
def test_bytes_survive_standard_base64_with_padding(data: bytes) -> None:
    text = base64std.encode(data)
    assert len(text) % 4 == 0
    assert base64std.decode(text) == data
    assert base64std.decode(text, length=len(data)) == data


@given(ANY_TEXT)
def test_text_that_base64url_accepts_is_the_text_it_writes(text: str) -> None:
    try:
        data = base64url.decode(text)
    except MalformedError:
        return
    assert base64url.encode(data) == text


@given(ANY_TEXT)
def test_text_that_standard_base64_accepts_is_the_text_it_writes(text: str) -> None:
    try:
        data = base64std.decode(text)
    except MalformedError:
        return
    assert base64std.encode(data) == text


def test_known_texts_of_both_alphabets() -> None:
    assert base64url.encode(b"\xfb\xff\xfe") == "-__-"
    assert base64std.encode(b"\xfb\xff\xfe") == "+//+"
    assert base64url.decode("AA") == b"\x00"
    assert base64std.decode("AA==") == b"\x00"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AA==", id="padding"),
        pytest.param("AB", id="unused bits set"),
        pytest.param("AAB", id="unused bits of the third character set"),
        pytest.param("A", id="a single character"),
        pytest.param("AAAAA", id="one character too many"),
        pytest.param("AA\n", id="final newline"),
        pytest.param(" AA", id="leading space"),
        pytest.param("A A", id="space inside"),
        pytest.param("+/", id="the other alphabet"),
        pytest.param("é", id="not ASCII"),
        pytest.param("٣٣", id="digits of another script"),
    ],
)
def test_base64url_in_another_spelling_is_rejected(text: str) -> None:
    assert refusal(base64url.decode, text) == "base64url"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AA", id="no padding"),
        pytest.param("AA=", id="half the padding"),
        pytest.param("AA===", id="too much padding"),
        pytest.param("AB==", id="unused bits set"),
        pytest.param("AA==\n", id="final newline"),
        pytest.param("AA==AA==", id="data after padding"),
        pytest.param("A" * 3 + "\r\n" + "A", id="line break inside"),
        pytest.param("-_", id="the other alphabet"),
        pytest.param("é", id="not ASCII"),
    ],
)
def test_standard_base64_in_another_spelling_is_rejected(text: str) -> None:
    assert refusal(base64std.decode, text) == "base64"


@pytest.mark.parametrize("length", [0, 2, 4])
def test_base64_of_another_length_than_asked_for_is_rejected(length: int) -> None:
    assert refusal(base64url.decode, "AAAA", length=length) == "base64url"
    assert refusal(base64std.decode, "AAAA", length=length) == "base64"


def test_messages_name_what_was_read_and_not_its_content() -> None:
    for decode in (base64url.decode, base64std.decode):
        with pytest.raises(MalformedError, match="the salt") as caught:
            decode("s3cr!t", what="the salt")
        assert "s3cr" not in str(caught.value)
