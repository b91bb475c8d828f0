"""Tokens of others under keys of others: the key says the algorithm, the token may only agree."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64url
from attestation.encoding.jws_keys import parse_verification_keys
from attestation.encoding.jws_verify import parse_signed_token, verify_signed_token
from attestation.errors import AttestationError, EvidenceError, MalformedError
from tests.refusals import refusal

PAYLOAD = b"any \x00 bytes"
SECRET = bytes(range(64))
RSA = rsa.generate_private_key(65537, 2048)
DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {
    "ES256": ("P-256", ec.generate_private_key(ec.SECP256R1())),
    "ES384": ("P-384", ec.generate_private_key(ec.SECP384R1())),
    "ES512": ("P-521", ec.generate_private_key(ec.SECP521R1())),
    "ES256K": ("secp256k1", ec.generate_private_key(ec.SECP256K1())),
}
EDWARDS: dict[str, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}
ALGORITHMS = [f"{kind}{bits}" for kind in ("HS", "RS", "PS") for bits in DIGESTS]
ALGORITHMS += [*CURVES, *EDWARDS]


def number(value: int, size: int | None = None) -> str:
    return base64url.encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def jwk(alg: str, /, **changes: Any) -> dict[str, Any]:
    key: dict[str, Any] = {"alg": alg, "kid": "one", "use": "sig"}
    if alg.startswith("HS"):
        key |= {"kty": "oct", "k": base64url.encode(SECRET)}
    elif alg in CURVES:
        crv, private = CURVES[alg]
        public, size = private.public_key().public_numbers(), (private.key_size + 7) // 8
        key |= {"kty": "EC", "crv": crv, "x": number(public.x, size), "y": number(public.y, size)}
    elif alg in EDWARDS:
        raw = EDWARDS[alg].public_key().public_bytes_raw()
        key |= {"kty": "OKP", "crv": alg, "x": base64url.encode(raw)}
    else:
        public_rsa = RSA.public_key().public_numbers()
        key |= {"kty": "RSA", "n": number(public_rsa.n), "e": number(public_rsa.e)}
    return {name: value for name, value in (key | changes).items() if value is not None}


def signed(alg: str, data: bytes) -> bytes:
    digest = DIGESTS.get(alg[2:5], hashes.SHA256())
    if alg.startswith("HS"):
        return hmac.digest(SECRET, data, getattr(hashlib, digest.name))
    if alg in CURVES:
        private = CURVES[alg][1]
        size = (private.key_size + 7) // 8
        pair = decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
        return b"".join(part.to_bytes(size, "big") for part in pair)
    if alg in EDWARDS:
        return EDWARDS[alg].sign(data)
    if alg.startswith("RS"):
        return RSA.sign(data, padding.PKCS1v15(), digest)
    return RSA.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


@functools.cache
def token(alg: str, named: str = "", kid: str | None = "one") -> str:
    header = {"alg": named or alg} | ({"kid": kid} if kid else {})
    return assembled(alg, json.dumps(header).encode())


def assembled(alg: str, header: bytes) -> str:
    text = f"{base64url.encode(header)}.{base64url.encode(PAYLOAD)}"
    return f"{text}.{base64url.encode(signed(alg, text.encode()))}"


def verify(text: str, keys: Any) -> bytes:
    return verify_signed_token(parse_signed_token(text), parse_verification_keys(keys))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_token_signed_by_the_key_is_accepted(alg: str) -> None:
    assert verify(token(alg), jwk(alg)) == PAYLOAD
    assert verify(token(alg, kid=None), {"keys": [jwk(alg)]}) == PAYLOAD
    assert verify(token(alg), jwk(alg, kid=None)) == PAYLOAD
    other = jwk(alg, kid="two")
    assert verify(token(alg), {"keys": [other, jwk(alg)]}) == PAYLOAD


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_token_with_any_part_changed_is_rejected(alg: str) -> None:
    header, payload, signature = token(alg).split(".")
    other = base64url.encode(json.dumps({"kid": "one", "alg": alg}).encode())
    broken = bytearray(base64url.decode(signature))
    broken[len(broken) // 2] ^= 1
    for text in (
        f"{other}.{payload}.{signature}",
        f"{header}.{base64url.encode(PAYLOAD + b'x')}.{signature}",
        f"{header}..{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}.{base64url.encode(bytes(broken))}",
        f"{header}.{payload}.{base64url.encode(bytes(len(broken)))}",
        f"{header}.{payload}.{base64url.encode(bytes(broken[:-1]))}",
        f"{header}.{payload}.{base64url.encode(bytes([*broken, 0]))}",
    ):
        assert refusal(verify, text, jwk(alg), error=EvidenceError) == "signature"


@pytest.mark.parametrize("alg", ALGORITHMS)
@pytest.mark.parametrize("named", ["none", "None", "", "HS256", "RS256", "PS256", "ES256", "Ed448"])
def test_token_that_names_another_algorithm_than_its_key_is_rejected(alg: str, named: str) -> None:
    if named == alg:
        named = "HS384"
    text = assembled(alg, json.dumps({"alg": named, "kid": "one"}).encode())
    assert refusal(verify, text, jwk(alg), error=EvidenceError) == "alg"


def test_public_key_is_no_secret_of_an_hmac() -> None:
    key = jwk("RS256")
    text = base64url.encode(b'{"alg":"HS256","kid":"one"}') + "." + base64url.encode(PAYLOAD)
    forged = hmac.digest(base64url.decode(key["n"]), text.encode(), "sha256")
    forged_token = f"{text}.{base64url.encode(forged)}"
    assert refusal(verify, forged_token, key, error=EvidenceError) == "alg"
    assert refusal(verify, forged_token, jwk("RS256", alg=None)) == "jwk"


@pytest.mark.parametrize("alg", list(EDWARDS))
def test_edwards_key_answers_to_both_of_its_names_unless_it_says_which(alg: str) -> None:
    assert verify(token(alg), jwk(alg, alg=None)) == PAYLOAD
    assert verify(token(alg, "EdDSA"), jwk(alg, alg=None)) == PAYLOAD
    assert verify(token(alg, "EdDSA"), jwk(alg, alg="EdDSA")) == PAYLOAD
    assert refusal(verify, token(alg), jwk(alg, alg="EdDSA"), error=EvidenceError) == "alg"
    assert refusal(verify, token(alg), jwk(alg, alg="ES256")) == "jwk"


@pytest.mark.parametrize("alg", list(CURVES))
def test_curve_alone_says_the_algorithm(alg: str) -> None:
    assert verify(token(alg), jwk(alg, alg=None)) == PAYLOAD


def test_algorithm_misnamed_after_its_curve_is_read_only_on_that_curve() -> None:
    assert verify(token("ES512"), jwk("ES512", alg="ES521")) == PAYLOAD
    assert refusal(verify, token("ES256"), jwk("ES256", alg="ES521")) == "jwk"
    misnamed = token("ES512", "ES521")
    assert refusal(verify, misnamed, jwk("ES512", alg="ES521"), error=EvidenceError) == "alg"


def test_pss_signature_with_another_length_of_salt_is_rejected() -> None:
    text = token("PS256").rpartition(".")[0]
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    signature = RSA.sign(text.encode(), scheme, hashes.SHA256())
    forged = f"{text}.{base64url.encode(signature)}"
    assert refusal(verify, forged, jwk("PS256"), error=EvidenceError) == "signature"


def roca_modulus() -> int:
    """A modulus of the form that the library made, of no known factors."""
    product = 1
    for candidate in range(2, 168):
        if all(candidate % smaller for smaller in range(2, candidate)):
            product *= candidate
    value = pow(65537, 12345, product)
    return value + product * ((1 << 2047) // product + 1)


@pytest.mark.parametrize(
    ("alg", "changes"),
    [
        ("RS256", {"use": "enc"}),
        ("RS256", {"key_ops": ["encrypt"]}),
        ("RS256", {"key_ops": ["sign"]}),
        ("RS256", {"key_ops": []}),
        ("RS256", {"key_ops": ["sign, verify"]}),
        ("RS256", {"key_ops": ["verify", "verify"]}),
        ("RS256", {"key_ops": "verify"}),
        ("RS256", {"alg": "RSA1_5"}),
        ("RS256", {"alg": "RS1"}),
        ("RS256", {"alg": "HS256"}),
        ("RS256", {"alg": ""}),
        ("RS256", {"alg": 1}),
        ("RS256", {"kty": "EC"}),
        ("RS256", {"kty": "rsa"}),
        ("RS256", {"kty": None}),
        ("RS256", {"n": None}),
        ("RS256", {"n": number((1 << 2047) - 1)}),
        ("RS256", {"n": number((1 << 2048) - 2)}),
        ("RS256", {"n": number((1 << 16384) + 1)}),
        ("RS256", {"n": number(RSA.public_key().public_numbers().n, 257)}),
        ("RS256", {"n": ""}),
        ("RS256", {"n": number(roca_modulus())}),
        ("RS256", {"e": "AQ"}),
        ("RS256", {"e": "Ag"}),
        ("RS256", {"e": number((1 << 64) + 1)}),
        ("RS256", {"e": "AQAB="}),
        ("ES256", {"kty": "RSA"}),
        ("ES256", {"crv": "P-384"}),
        ("ES256", {"crv": "P-224"}),
        ("ES256", {"alg": "ES384"}),
        ("ES256", {"alg": "ES224"}),
        ("ES256", {"x": base64url.encode(bytes(32)), "y": base64url.encode(bytes(32))}),
        ("ES256", {"x": base64url.encode(bytes(33))}),
        ("ES256", {"x": base64url.encode(b"\xff" * 32)}),
        ("Ed25519", {"x": base64url.encode(bytes(31))}),
        ("Ed25519", {"crv": "X25519"}),
        ("HS256", {"k": ""}),
        ("HS256", {"k": base64url.encode(bytes(31))}),
        ("HS384", {"k": base64url.encode(bytes(47))}),
        ("HS512", {"k": base64url.encode(bytes(63))}),
        ("HS256", {"alg": None}),
        ("HS256", {"alg": "A256GCM"}),
        ("HS256", {"alg": "A256KW"}),
        ("HS256", {"kid": "two"}),
        ("HS256", {"kid": 1}),
    ],
)
def test_key_that_is_not_for_this_is_rejected(alg: str, changes: dict[str, Any]) -> None:
    with pytest.raises(AttestationError):
        verify(token(alg), jwk(alg, **changes))


def test_key_is_refused_before_a_signature_is_looked_at() -> None:
    """Whatever the token: some of these keys would only fail to verify it."""
    public = RSA.public_key().public_numbers()
    for alg, changes, words in (
        ("RS256", {"n": number((1 << 2046) + 1)}, "modulus of another size"),
        ("RS256", {"n": number((1 << 16384) + 1)}, "modulus of another size"),
        ("RS256", {"n": number((1 << 2048) - 2)}, "is none"),
        ("RS256", {"n": number(roca_modulus())}, "ROCA"),
        ("RS256", {"n": ""}, "n is not in its shortest form"),
        ("RS256", {"e": ""}, "e is not in its shortest form"),
        ("RS256", {"n": number(public.n, 257)}, "n is not in its shortest form"),
        ("RS256", {"e": "AQ"}, "is none"),
        ("RS256", {"e": "BA"}, "is none"),
        ("RS256", {"e": number((1 << 64) + 1)}, "is none"),
        ("ES256", {"x": longer("ES256", "x")}, "x"),
        ("ES256", {"y": longer("ES256", "y")}, "y"),
        ("HS256", {"k": base64url.encode(bytes(31))}, "too short"),
        ("HS512", {"k": base64url.encode(bytes(63))}, "too short"),
        ("RS256", {"alg": "ES256"}, "which algorithm"),
        ("ES256", {"alg": "RS256"}, "which algorithm"),
        ("ES256", {"key_ops": ["verify", *"abcdefghijklmnop"]}, "key_ops"),
    ):
        keys = parse_verification_keys(jwk(alg, **changes))
        with pytest.raises(MalformedError, match=words):
            keys.choose("one")


def longer(alg: str, name: str) -> str:
    return base64url.encode(b"\0" + base64url.decode(jwk(alg)[name]))


def test_set_of_more_keys_than_are_read_is_refused() -> None:
    many = [jwk("HS256", kid=str(index)) for index in range(1001)]
    assert parse_verification_keys({"keys": many[:1000]}).choose("999").key == SECRET
    assert refusal(parse_verification_keys, {"keys": many}) == "member_value"


def test_two_keys_of_one_name_are_refused_even_if_the_token_names_a_third() -> None:
    keys = [jwk("ES256"), jwk("ES384", kid="two"), jwk("ES512", kid="two")]
    assert refusal(parse_verification_keys, {"keys": keys}) == "jwk"
    parse_verification_keys({"keys": keys[:2]})


def test_token_that_is_not_ascii_is_refused_as_such() -> None:
    assert refusal(parse_signed_token, token("HS256").replace(".", ".é", 1)) == "jws"


@pytest.mark.parametrize("operations", [["verify"], ["sign", "verify"]])
def test_key_that_may_verify_does(operations: list[str]) -> None:
    assert verify(token("ES256"), jwk("ES256", use=None, key_ops=operations)) == PAYLOAD


def test_members_nobody_knows_and_private_ones_change_nothing() -> None:
    assert verify(token("ES256"), jwk("ES256", d="AA", x5c=["no certificate"], new=1)) == PAYLOAD


@pytest.mark.parametrize(
    "keys",
    [
        {"keys": []},
        {"keys": {}},
        {"keys": ["text"]},
        {"keys": [jwk("ES256", kid="two"), jwk("ES384", kid="three")]},
        {"keys": [jwk("ES256"), jwk("ES384")]},
        {"keys": [jwk("ES256", kid=None), jwk("ES384", kid=None)]},
        {"keys": [jwk("ES256", kid=None), jwk("ES384")]},
        {"keys": [jwk("ES256"), jwk("HS256", kid="two")]},
        {"keys": [jwk("ES256"), jwk("ES384", kid="two", d="AA")]},
        {},
        [],
        None,
    ],
)
def test_set_that_does_not_hold_one_such_key_is_rejected(keys: Any) -> None:
    with pytest.raises(AttestationError):
        verify(token("ES256"), keys)


def test_token_without_kid_needs_a_set_of_one_key() -> None:
    keys = {"keys": [jwk("ES256"), jwk("ES384", kid="two")]}
    assert refusal(verify, token("ES256", kid=None), keys) == "jwk"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","kid":"one","crit":["exp"]}',
        b'{"alg":"HS256","kid":"one","crit":[]}',
        b'{"alg":"HS256","kid":"one","b64":true}',
        b'{"alg":"HS256","kid":"one","b64":false,"crit":["b64"]}',
        b'{"alg":"HS256","kid":"one","enc":"A128GCM"}',
        b'{"alg":"HS256","kid":"one","zip":"DEF"}',
        b'{"alg":"HS256","alg":"HS256"}',
        b'{"alg":["HS256"]}',
        b'{"alg":"HS256","kid":1}',
        b'{"kid":"one"}',
        b'["alg"]',
        b"",
        b"\xef\xbb\xbf{}",
    ],
)
def test_header_that_is_more_or_less_than_a_plain_one_is_rejected(header: bytes) -> None:
    with pytest.raises(AttestationError):
        verify(assembled("HS256", header), jwk("HS256"))


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "typ", "cty", "unknown"])
def test_header_cannot_bring_a_key_and_what_it_says_besides_is_ignored(name: str) -> None:
    header = {"alg": "HS256", "kid": "one", name: jwk("HS256", k="AA")}
    assert verify(assembled("HS256", json.dumps(header).encode()), jwk("HS256")) == PAYLOAD


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + ".",
        lambda text: text + ".e30",
        lambda text: "." + text,
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(".", ".é", 1),
        lambda text: text.rpartition(".")[0],
        lambda _text: "",
        lambda _text: "..",
        lambda text: json.dumps(
            dict(zip(("protected", "payload", "signature"), text.split("."), strict=True))
        ),
    ],
)
def test_other_spelling_of_a_token_is_rejected(change: Any) -> None:
    with pytest.raises(AttestationError):
        verify(change(token("HS256")), jwk("HS256"))


def test_token_larger_than_the_caller_allows_is_rejected() -> None:
    text = token("HS256")
    assert refusal(parse_signed_token, text, max_bytes=len(text) - 1) == "jws"
    parse_signed_token(text, max_bytes=len(text))


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        parsed = parse_signed_token(text)
    except AttestationError:
        return
    parts = [parsed.signing_input.decode().split(".")[1], base64url.encode(parsed.signature)]
    assert text.split(".")[1:] == parts


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["keys", "kty", "kid", "alg", "k", "d", "n", "e", "crv", "x", "y"])
                | st.text(max_size=3),
                inner,
                max_size=4,
            )
        ),
    ),
    st.sampled_from(["kty", "alg", "kid", "use", "key_ops", "k", "n", "e", "crv", "x", "y"]),
    st.sampled_from(ALGORITHMS),
)
def test_any_value_is_a_key_set_or_refused(value: Any, member: str, alg: str) -> None:
    for keys in (value, {"keys": value}, {"keys": [value]}, jwk(alg) | {member: value}):
        try:
            parse_verification_keys(keys).choose("one")
        except AttestationError:
            continue


@given(st.sampled_from(ALGORITHMS), st.data())
def test_flipped_bit_of_a_token_is_never_accepted(alg: str, data: st.DataObject) -> None:
    text = token(alg)
    at = data.draw(st.integers(0, len(text) - 1))
    other = chr(ord(text[at]) ^ 1 << data.draw(st.integers(0, 6)))
    with pytest.raises(AttestationError):
        verify(text[:at] + other + text[at + 1 :], jwk(alg))
