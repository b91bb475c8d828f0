"""Compact JWS: one spelling of a token, and a digest over what is signed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.encoding.jws import assemble, encode_signing_input, parse_compact_jws
from attestation.errors import MalformedError
from tests.refusals import refusal

HEADER = {"typ": "x", "alg": "EdDSA"}
PAYLOAD = {"b": [1, None], "a": "é"}
SIGNATURE = bytes(range(64))
TWICE, NAN = b'{"a":1,"a":1}', b'{"a":NaN}'


def b64(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64url.encode(data)


TOKEN = assemble(encode_signing_input(HEADER, PAYLOAD), SIGNATURE)


@pytest.mark.parametrize("token", [TOKEN, TOKEN.encode()], ids=["text", "bytes"])
def test_token_is_read_back(token: str | bytes) -> None:
    jws = parse_compact_jws(token)
    assert (jws.header, jws.payload, jws.signature) == (HEADER, PAYLOAD, SIGNATURE)
    assert jws.payload_bytes == jcs.canonicalize(PAYLOAD)
    assert jws.token == TOKEN
    assert jws.signing_input == TOKEN.rpartition(".")[0].encode()


def test_digest_covers_the_signing_input_and_not_the_signature() -> None:
    other = assemble(encode_signing_input(HEADER, PAYLOAD), bytes(64))
    assert parse_compact_jws(other).digest == parse_compact_jws(TOKEN).digest
    assert parse_compact_jws(TOKEN).digest == Digest.of(TOKEN.rpartition(".")[0].encode())


def test_signing_input_is_canonical_json_on_both_sides() -> None:
    header, payload = encode_signing_input(HEADER, PAYLOAD).decode().split(".")
    assert base64url.decode(header) == b'{"alg":"EdDSA","typ":"x"}'
    assert base64url.decode(payload) == '{"a":"é","b":[1,null]}'.encode()


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_signature_of_another_length_is_neither_assembled_nor_parsed(length: int) -> None:
    assert refusal(assemble, b"e30.e30", bytes(length)) == "jws"
    token = f"e30.e30.{base64url.encode(bytes(length))}"
    assert refusal(parse_compact_jws, token) == "base64url"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        pytest.param("", "jws", id="empty"),
        pytest.param("e30.e30", "jws", id="two parts"),
        pytest.param(TOKEN + ".", "jws", id="four parts"),
        pytest.param("." + TOKEN, "jws", id="leading dot"),
        pytest.param(TOKEN.replace(".", "..", 1), "jws", id="doubled dot"),
        pytest.param(TOKEN + "\n", "base64url", id="final newline"),
        pytest.param(" " + TOKEN, "base64url", id="leading space"),
        pytest.param(TOKEN + "=", "base64url", id="padding"),
        pytest.param(TOKEN.replace(".", ".é", 1), "jws", id="not ASCII"),
        pytest.param("..", "syntax", id="three empty parts"),
        pytest.param(f".e30.{b64(SIGNATURE)}", "syntax", id="no header"),
        pytest.param(f"e30..{b64(SIGNATURE)}", "syntax", id="no payload"),
        pytest.param(f"W10.e30.{b64(SIGNATURE)}", "syntax", id="header is an array"),
        pytest.param(f"e30.bnVsbA.{b64(SIGNATURE)}", "syntax", id="payload is null"),
        pytest.param(f"{b64(TWICE)}.e30.{b64(SIGNATURE)}", "duplicate_member", id="header twice"),
        pytest.param(f"e30.{b64(TWICE)}.{b64(SIGNATURE)}", "duplicate_member", id="payload twice"),
        pytest.param(f"e30.{b64(NAN)}.{b64(SIGNATURE)}", "syntax", id="NaN"),
    ],
)
def test_token_in_another_spelling_is_rejected(token: str, code: str) -> None:
    assert refusal(parse_compact_jws, token) == code
    assert refusal(parse_compact_jws, token.encode()) == code


def test_token_of_4096_bytes_passes_and_one_more_does_not() -> None:
    def token(length: int) -> str:
        rest = len(f"e30..{b64(SIGNATURE)}")
        filler = b'{"a":"' + b"x" * ((length - rest) * 3 // 4 - 8) + b'"}'
        return f"e30.{b64(filler)}.{b64(SIGNATURE)}"

    largest = token(4096)
    assert 4090 <= len(largest) <= 4096
    assert parse_compact_jws(largest).token == largest
    assert refusal(parse_compact_jws, largest, max_bytes=len(largest) - 1) == "size"
    assert parse_compact_jws(largest, max_bytes=len(largest)).token == largest
    assert refusal(parse_compact_jws, "A" * 4097) == "size"
    assert refusal(parse_compact_jws, "A" * 4096) == "jws"


def test_claims_nested_deeper_than_any_format_are_rejected() -> None:
    deep = b'{"a":' * 16 + b"1" + b"}" * 16
    assert parse_compact_jws(f"e30.{b64(deep)}.{b64(SIGNATURE)}").payload_bytes == deep
    deeper = b'{"a":' * 17 + b"1" + b"}" * 17
    assert refusal(parse_compact_jws, f"e30.{b64(deeper)}.{b64(SIGNATURE)}") == "depth"
    many = json.dumps({str(number): 0 for number in range(513)}).encode()
    long = f"e30.{b64(many)}.{b64(SIGNATURE)}"
    assert refusal(parse_compact_jws, long, max_bytes=1 << 16) == "members"


@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=255))
def test_token_with_another_character_is_rejected_or_says_something_else(
    position: int, character: str
) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    try:
        jws = parse_compact_jws(changed)
    except MalformedError:
        return
    same = (jws.signing_input, jws.signature) == (TOKEN.rpartition(".")[0].encode(), SIGNATURE)
    assert same == (changed == TOKEN)


@given(st.text(alphabet="eyJ30.-_=W9\n", max_size=40) | st.text(max_size=20))
def test_only_malformed_error_escapes(token: str) -> None:
    try:
        jws = parse_compact_jws(token)
    except MalformedError:
        return
    assert assemble(jws.signing_input, jws.signature) == token


def test_refusal_names_the_token() -> None:
    for token in ("", "x" * 5000, "é", "e30.e30.x", "=.e30.x", "e30.=.x"):
        with pytest.raises(MalformedError, match="the receipt"):
            parse_compact_jws(token, what="the receipt")
