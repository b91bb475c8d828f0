"""Ed25519 public keys have one JWK and one name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url, jwk
from attestation.errors import MalformedError
from tests.refusals import refusal

RAW = base64url.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
# RFC 8037 appendix A.3.
THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_thumbprint_of_the_rfc_example() -> None:
    assert jwk.thumbprint(RAW) == THUMBPRINT
    assert jwk.public_jwk(RAW) == {
        "crv": "Ed25519",
        "kid": THUMBPRINT,
        "kty": "OKP",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }


@given(st.binary(min_size=32, max_size=32))
def test_key_survives_its_jwk(raw: bytes) -> None:
    parsed = jwk.parse_public_jwk(jwk.public_jwk(raw))
    assert parsed.raw == raw
    assert parsed.kid == jwk.thumbprint(raw)


@pytest.mark.parametrize("length", [0, 31, 33, 57])
def test_key_of_another_length_is_rejected(length: int) -> None:
    assert refusal(jwk.thumbprint, bytes(length)) == "jwk"
    assert refusal(jwk.public_jwk, bytes(length)) == "jwk"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"kid": THUMBPRINT[:-1] + "l"}, "jwk", id="another name"),
        pytest.param({"kid": ""}, "jwk", id="empty name"),
        pytest.param({"x": base64url.encode(bytes(32))}, "jwk", id="another key"),
        pytest.param({"x": base64url.encode(bytes(31))}, "base64url", id="short key"),
        pytest.param({"x": base64url.encode(RAW) + "="}, "base64url", id="padding"),
        pytest.param({"crv": "X25519"}, "member_value", id="another curve"),
        pytest.param({"kty": "EC"}, "member_value", id="another type"),
        pytest.param({"kty": "okp"}, "member_value", id="type in lower case"),
        pytest.param({"d": "AAAA"}, "unknown_member", id="private member"),
        pytest.param({"use": "sig"}, "unknown_member", id="member of no meaning here"),
        pytest.param({"x": None}, "member_type", id="null"),
    ],
)
def test_changed_jwk_is_rejected(change: dict[str, Any], code: str) -> None:
    assert refusal(jwk.parse_public_jwk, jwk.public_jwk(RAW) | change) == code


@pytest.mark.parametrize("member", ["crv", "kid", "kty", "x"])
def test_jwk_without_a_member_is_rejected(member: str) -> None:
    value = jwk.public_jwk(RAW)
    del value[member]
    assert refusal(jwk.parse_public_jwk, value) == "missing_member"


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_is_not_an_object_is_no_jwk(value: object) -> None:
    assert refusal(jwk.parse_public_jwk, value) == "member_type"


def test_refusal_names_the_key() -> None:
    with pytest.raises(MalformedError, match="the receipt key"):
        jwk.parse_public_jwk(jwk.public_jwk(RAW) | {"kid": "x"}, what="the receipt key")
