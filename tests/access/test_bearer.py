"""Bearer tokens: one spelling, one algorithm a key, and every claim as it must be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.errors import AttestationError, EvidenceError, MalformedError
from gateway.access.bearer import (
    MAX_TOKEN_BYTES,
    TokenProfile,
    parse_bearer_token,
    parse_issuer_keys,
    verify_bearer_token,
)
from tests.support.tokens import NOW, PROFILE, Signer, good_claims

SIGNER = Signer()
KEYS = SIGNER.keys
HEADER = b'{"alg":"ES256","kid":"k1","typ":"at+jwt"}'
CLAIMS = json.dumps(good_claims()).encode()


def verify(token: bytes, profile: TokenProfile = PROFILE, now: int = NOW) -> None:
    verify_bearer_token(parse_bearer_token(token), KEYS, profile, now)


def code_of(token: bytes, profile: TokenProfile = PROFILE, now: int = NOW) -> str:
    with pytest.raises(EvidenceError) as refusal:
        verify(token, profile, now)
    return refusal.value.code


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "EdDSA", "RS256", "PS256"])
def test_good_token_of_every_supported_algorithm_is_accepted(alg: str) -> None:
    signer = Signer(alg=alg)
    verify_bearer_token(parse_bearer_token(signer.token()), signer.keys, PROFILE, NOW)


def test_both_names_of_ed25519_are_accepted_where_the_key_has_the_new_one() -> None:
    signer = Signer(alg="EdDSA", extra={"alg": "Ed25519"})
    token = signer.token({"alg": "Ed25519"})
    verify_bearer_token(parse_bearer_token(token), signer.keys, PROFILE, NOW)
    with pytest.raises(EvidenceError):
        verify_bearer_token(parse_bearer_token(signer.token()), signer.keys, PROFILE, NOW)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"ES256","kid":"k1","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"evil","kid":"k1","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","zip":"DEF"}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","crit":["exp"]}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","b64":false}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","jku":"http://127.0.0.1:9/"}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","jwk":{}}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","x5u":"http://127.0.0.1:9/"}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","x5c":[]}',
        b'{"alg":"ES256","kid":"k1","typ":"at+jwt","cty":"JWT"}',
        b'{"alg":"ES256","kid":1,"typ":"at+jwt"}',
        b'{"alg":"ES256","typ":"at+jwt"}',
        b'{"kid":"k1","typ":"at+jwt"}',
        b'{"alg":"","kid":"k1","typ":"at+jwt"}',
        b'{"alg":"ES256","kid":"k1","typ":null}',
        b'\xef\xbb\xbf{"alg":"ES256","kid":"k1","typ":"at+jwt"}',
        b'["ES256"]',
    ],
)
def test_header_that_is_not_just_alg_kid_and_typ_is_malformed(header: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bearer_token(SIGNER.sign(header, CLAIMS))


@pytest.mark.parametrize(
    "payload",
    [
        CLAIMS.replace(b'"sub"', b'"sub":"admin","sub"'),
        CLAIMS.replace(b"1800000300", b"Infinity"),
        CLAIMS.replace(b"1800000300", b"1e400"),
        b"[]",
        b'"x"',
        b"",
        CLAIMS + b" {}",
        CLAIMS.decode().encode("utf-16"),
    ],
)
def test_payload_that_is_no_strict_json_object_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bearer_token(SIGNER.sign(HEADER, payload))


def test_other_spellings_of_a_good_token_are_malformed() -> None:
    token = SIGNER.token()
    head, body, signature = token.split(b".")
    for other in (
        token + b"=",
        token + b".",
        b" " + token,
        token + b"\n",
        head + b"." + body,
        b".".join((head + b"=", body, signature)),
        token.replace(b".", b"\xc2\xb7"),
        token[:-1] + b"+",
    ):
        with pytest.raises(MalformedError):
            parse_bearer_token(other)


def test_last_character_has_one_spelling() -> None:
    signer = Signer(alg="EdDSA")
    token = signer.token()
    for other in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if other == token[-1]:
            continue
        with pytest.raises(AttestationError):
            verify_bearer_token(
                parse_bearer_token(token[:-1] + bytes([other])), signer.keys, PROFILE, NOW
            )


def test_token_over_the_bound_is_malformed_and_one_below_is_not() -> None:
    long = SIGNER.token(filler="x" * 5000)
    assert len(long) < MAX_TOKEN_BYTES
    verify(long)
    with pytest.raises(MalformedError):
        parse_bearer_token(SIGNER.token(filler="x" * 6500))


def test_pyjwt_alone_accepts_what_is_refused_here() -> None:
    key = SIGNER.private.public_key()
    odd = SIGNER.sign(HEADER.replace(b"}", b',"zip":"DEF"}'), CLAIMS)
    jwt.decode(
        odd, key, algorithms=["ES256"], options={"verify_exp": False, "verify_aud": False,
                                                 "verify_iat": False}
    )  # fmt: skip
    with pytest.raises(MalformedError):
        parse_bearer_token(odd)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://issuer.test/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"iss": ["https://issuer.test"]}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["a", "b"]}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": {"gateway.test": 1}}, "aud"),
        ({"aud": ["gateway.test", 1]}, "aud"),
        ({"aud": ["gateway.test"] * 65}, "aud"),
        ({"aud": None}, "claims"),
        ({"sub": None}, "claims"),
        ({"sub": 1}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": "x" * 1025}, "claims"),
        ({"jti": 5}, "claims"),
        ({"iat": None}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": str(NOW + 300)}, "claims"),
        ({"exp": True}, "claims"),
        ({"nbf": "1"}, "claims"),
        ({"exp": NOW}, "expired"),
        ({"exp": -1}, "expired"),
        ({"nbf": NOW + 1}, "not_yet"),
        ({"iat": NOW + 1}, "not_yet"),
        ({"exp": NOW - 10 + 3601}, "lifetime"),
    ],
)
def test_claims_are_as_the_profile_says(changes: dict[str, Any], code: str) -> None:
    assert code_of(SIGNER.token(**changes)) == code


def test_bounds_in_time_are_exact_and_move_by_the_leeway() -> None:
    verify(SIGNER.token(exp=NOW + 1, nbf=NOW, iat=NOW))
    verify(SIGNER.token(exp=NOW + 0.5))
    verify(SIGNER.token(exp=NOW - 10 + 3600))
    late = replace(PROFILE, leeway=30)
    verify(SIGNER.token(exp=NOW - 29), late)
    verify(SIGNER.token(iat=NOW + 30), late)
    assert code_of(SIGNER.token(exp=NOW - 30), late) == "expired"
    assert code_of(SIGNER.token(nbf=NOW + 31), late) == "not_yet"


def test_profile_without_bound_takes_what_need_not_expire() -> None:
    free = replace(PROFILE, required=frozenset(("iss",)), max_lifetime=None)
    verify(SIGNER.token(exp=None, iat=None, sub=None), free)


def test_audience_may_be_one_of_several() -> None:
    verify(SIGNER.token(aud=["x", "gateway.test"]))


@pytest.mark.parametrize("typ", ["JWT", "AT+JWT", "inference-receipt+jwt", None])
def test_token_of_another_type_is_refused(typ: str | None) -> None:
    assert code_of(SIGNER.token({"typ": typ})) == "typ"


@pytest.mark.parametrize("kid", ["k2", "../../dev/null", "K1"])
def test_unknown_kid_falls_back_to_no_key(kid: str) -> None:
    assert code_of(SIGNER.token({"kid": kid})) == "kid"


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS256", "ES384", "ES256K", "es256"])
def test_header_does_not_choose_the_algorithm(alg: str) -> None:
    assert code_of(SIGNER.token({"alg": alg})) == "alg"


def test_public_key_is_no_secret_of_an_hmac() -> None:
    signer = Signer(alg="RS256")
    secret = json.dumps(signer.jwk).encode()
    head = base64url.encode(b'{"alg":"HS256","kid":"k1","typ":"at+jwt"}')
    signed = f"{head}.{base64url.encode(CLAIMS)}".encode()
    signature: bytes = jwt.PyJWS().get_algorithm_by_name("HS256").sign(signed, secret)
    token = signed + b"." + base64url.encode(signature).encode()
    with pytest.raises(EvidenceError) as refusal:
        verify_bearer_token(parse_bearer_token(token), signer.keys, PROFILE, NOW)
    assert refusal.value.code == "alg"


def test_signatures_of_other_keys_lengths_and_bytes_do_not_hold() -> None:
    other = Signer().token()
    assert code_of(other) == "signature"
    head, body, signature = SIGNER.token().split(b".")
    raw = base64url.decode(signature.decode())
    for forged in (b"", bytes(64), raw[:-1], raw + b"\0", raw[:-1] + bytes([raw[-1] ^ 1])):
        token = b".".join((head, body, base64url.encode(forged).encode()))
        assert code_of(token) == "signature"


def test_key_sets_that_could_let_anybody_in_are_refused() -> None:
    jwk = Signer().jwk
    for keys in (
        [],
        [{**jwk, "kid": None}],
        [{name: value for name, value in jwk.items() if name != "kid"}],
        [{name: value for name, value in jwk.items() if name != "alg"}],
        [{**jwk, "alg": "ES384"}],
        [{**jwk, "use": "enc"}],
        [{**jwk, "d": jwk["x"]}],
        [{"kty": "oct", "alg": "HS256", "kid": "k1", "k": "A" * 43}],
        [Signer(alg="Ed448").jwk],
        [jwk, jwk],
        [jwk] * 65,
    ):
        with pytest.raises(MalformedError):
            parse_issuer_keys({"keys": keys})


def test_key_that_is_too_short_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too short on purpose
    with pytest.raises(MalformedError, match="modulus"):
        parse_issuer_keys(Signer(alg="RS256", private=short).jwks)


def test_refusals_quote_nothing_of_the_token() -> None:
    for token in (
        SIGNER.token(sub="canary", aud="canary-aud"),
        SIGNER.token({"kid": "canary"}),
        SIGNER.sign(b'{"canary":1}', CLAIMS),
        b"canary.canary.c",
    ):
        with pytest.raises(AttestationError) as refusal:
            verify(token)
        told = str(refusal.value).replace("members that its format does not know", "")
        assert "canary-aud" not in told
        assert "agent" not in told


@given(st.binary(max_size=400))
def test_only_attestation_errors_leave_the_parser(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_bearer_token(data)


@given(st.data())
def test_no_change_of_a_byte_is_accepted(data: st.DataObject) -> None:
    signer, token = SIGNER, bytearray(SIGNER_TOKEN)
    at = data.draw(st.integers(0, len(token) - 1))
    token[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AttestationError):
        verify_bearer_token(parse_bearer_token(bytes(token)), signer.keys, PROFILE, NOW)


SIGNER_TOKEN = Signer.token(SIGNER)
