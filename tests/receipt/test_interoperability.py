"""Receipts are ordinary JWTs: other libraries verify them, given nothing but the public key."""

from __future__ import annotations

import jwt
import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import OKPKey

from attestation.encoding import base64url
from attestation.encoding.jwk import public_jwk
from attestation.receipt.seal import claims_of
from attestation.receipt.signing import parse_receipt, sign_receipt, verify_receipt_signature
from tests.receipt.support import context, key_of, outcome, private_key

PRIVATE = private_key()
JWK = public_jwk(PRIVATE.public_key().public_bytes_raw())
OTHER = public_jwk(private_key(2).public_key().public_bytes_raw())


def okp(jwk: dict[str, str], **private: str) -> OKPKey:
    members: dict[str, str | list[str]] = {**jwk, **private}
    return OKPKey.import_key(members)


def token() -> str:
    return sign_receipt(claims_of(outcome(), context())[0], PRIVATE, key_of(PRIVATE).kid)


def test_pyjwt_verifies_a_receipt() -> None:
    claims = jwt.decode(token(), jwt.PyJWK(JWK), algorithms=["EdDSA"])
    assert claims == parse_receipt(token()).claims.to_json()


def test_pyjwt_rejects_a_receipt_by_another_key() -> None:
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token(), jwt.PyJWK(OTHER), algorithms=["EdDSA"])


@pytest.mark.filterwarnings("ignore::Warning")
def test_joserfc_verifies_a_receipt() -> None:
    verified = jws.deserialize_compact(token(), okp(JWK), algorithms=["EdDSA"])
    assert verified.payload == parse_receipt(token()).jws.payload_bytes


@pytest.mark.filterwarnings("ignore::Warning")
def test_joserfc_rejects_a_receipt_by_another_key() -> None:
    with pytest.raises(BadSignatureError):
        jws.deserialize_compact(token(), okp(OTHER), algorithms=["EdDSA"])


@pytest.mark.filterwarnings("ignore::Warning")
def test_token_by_joserfc_under_the_newer_algorithm_name_is_accepted() -> None:
    key = okp(JWK, d=base64url.encode(PRIVATE.private_bytes_raw()))
    header = {"alg": "Ed25519", "kid": JWK["kid"], "typ": "inference-receipt+jwt"}
    payload = parse_receipt(token()).jws.payload_bytes
    theirs = jws.serialize_compact(header, payload, key, algorithms=["Ed25519"])
    assert parse_receipt(theirs).claims == parse_receipt(token()).claims
    verify_receipt_signature(parse_receipt(theirs), key_of(PRIVATE))
