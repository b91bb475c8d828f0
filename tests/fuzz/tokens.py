"""Targets and seeds of what others sign: their tokens, key sets and public keys."""

from __future__ import annotations

import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import base64url
from attestation.encoding.jws_keys import parse_verification_keys
from attestation.encoding.jws_verify import parse_signed_token, verify_signed_token
from attestation.encoding.signature import parse_public_key
from attestation.encoding.strict_json import parse_json
from gateway.access.bearer import parse_bearer_token, parse_issuer_keys, verify_bearer_token
from tests.support.tokens import NOW, PROFILE, Signer

# RFC 8037 appendix A.4, with the algorithm its key is for.
SIGNED_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "alg": "EdDSA",
    "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
SIGNED_TOKEN = (
    b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


# Ed25519 signatures are the same in every run.
BEARER = Signer(alg="EdDSA", private=Ed25519PrivateKey.from_private_bytes(b"\7" * 32))


def run_bearer(data: bytes) -> None:
    token = parse_bearer_token(data)
    assert token.signing_input + b"." + base64url.encode(token.signature).encode() == data
    verify_bearer_token(token, BEARER.keys, PROFILE, NOW)
    assert data in bearers(), "a signature for another token"


def run_issuer_keys(data: bytes) -> None:
    keys = parse_issuer_keys(parse_json(data))
    assert keys
    assert not any(isinstance(key.key, bytes) for key in keys.values())


def bearers() -> list[bytes]:
    return [BEARER.token(), BEARER.token(aud=["x", "gateway.test"], jti="1", scope={"a": [1]})]


def issuer_keys() -> list[bytes]:
    return [json.dumps({"keys": [BEARER.jwk, Signer(kid="k2").jwk]}).encode()]


def run_token(data: bytes) -> None:
    token = parse_signed_token(data.decode("utf-8", "surrogateescape"))
    assert token.signing_input + b"." + base64url.encode(token.signature).encode() == data
    verify_signed_token(token, parse_verification_keys(SIGNED_KEY))
    assert data == SIGNED_TOKEN, "a signature for another token"


def run_key_set(data: bytes) -> None:
    verify_signed_token(
        parse_signed_token(SIGNED_TOKEN.decode()), parse_verification_keys(parse_json(data))
    )


def run_public_key(data: bytes) -> None:
    parse_public_key(data)


def tokens() -> list[bytes]:
    return [SIGNED_TOKEN]


def key_sets() -> list[bytes]:
    return [json.dumps({"keys": [SIGNED_KEY]}).encode()]


def public_keys() -> list[bytes]:
    return [bytes.fromhex("302a300506032b6570032100") + bytes(range(32))]
