"""JWS compact serialisation (RFC 7515 section 7.1) of any payload, verified against given keys.

Unlike the receipts' own format (`jws`), which has one algorithm, this is for tokens and keys
of others.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from attestation.encoding import base64url
from attestation.encoding.members import Members
from attestation.encoding.signature import (
    verify_ecdsa_fixed,
    verify_eddsa,
    verify_rsa_pkcs1,
    verify_rsa_pss,
)
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from attestation.encoding.jws_keys import KeySet, VerificationKey

MAX_TOKEN_BYTES = 1 << 18
_LIMITS = JsonLimits(max_depth=16, max_members=512)
# Each changes what is signed or what must be understood (RFC 7515 section 4.1.11, RFC 7797),
# or makes the token an encrypted one (RFC 7516); none of that is supported here.
_REFUSED = ("crit", "b64", "enc", "zip")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedToken:
    """The parts of a token; nothing is said yet about who signed it."""

    alg: str
    kid: str | None
    payload: bytes
    signing_input: bytes
    signature: bytes


def parse_signed_token(token: str, *, max_bytes: int = MAX_TOKEN_BYTES) -> SignedToken:
    """Return the parts of `token`, its payload as bytes of any kind.

    Guarantees: ASCII of at most `max_bytes`, exactly two dots, canonical base64url without
    padding, a header that is a strict JSON object with "alg", a "kid" that is a string if there
    is one, and nothing that asks for more than a plain signature.  Keys and addresses of keys in
    the header are never used.  Raises `MalformedError`.
    """
    parts = token.split(".")
    if len(token) > max_bytes or not token.isascii() or len(parts) != 3:
        raise MalformedError(
            "the token is not a compact JWS",
            code="jws",
            expected=f"three parts of ASCII separated by dots, at most {max_bytes} bytes",
            observed=f"{len(parts)} parts, {len(token)} characters",
        )
    decoded = [base64url.decode(part, what="a part of the token") for part in parts]
    header = Members(parse_json_object(decoded[0], _LIMITS), "the token's header")
    for name in _REFUSED:
        if header.has(name):
            raise MalformedError(
                "the token asks for more than a plain signature",
                code="jws",
                expected="a header without " + ", ".join(_REFUSED),
                observed=name,
            )
    return SignedToken(
        alg=header.text("alg"),
        kid=header.text("kid") if header.has("kid") else None,
        payload=decoded[1],
        signing_input=token.rpartition(".")[0].encode("ascii"),
        signature=decoded[2],
    )


def verify_signed_token(token: SignedToken, keys: KeySet) -> bytes:
    """Return the payload of `token` after showing that one of `keys` signed it.

    1. the key is the one the token names
    2. the key says which algorithm, and the token's header may only agree
    3. the signature holds over header and payload

    Raises `EvidenceError` (codes "alg", "signature") and, for an unusable key, `MalformedError`.
    """
    key = keys.choose(token.kid)
    if token.alg not in key.names:
        raise EvidenceError(
            "the token names another algorithm than its key",
            code="alg",
            expected=" or ".join(sorted(key.names)),
            observed=ascii(token.alg[:32]),
        )
    _verify(key, token.signature, token.signing_input)
    return token.payload


def _verify(key: VerificationKey, signature: bytes, data: bytes) -> None:
    digest = key.digest
    if isinstance(key.key, bytes):
        _verify_hmac(key.key, signature, data, digest.name)
    elif isinstance(key.key, EllipticCurvePublicKey):
        verify_ecdsa_fixed(key.key, signature, data, digest)
    elif not isinstance(key.key, RSAPublicKey):
        verify_eddsa(key.key, signature, data)
    elif key.algorithm.startswith("RS"):
        verify_rsa_pkcs1(key.key, signature, data, digest)
    else:
        # RFC 7518 section 3.5: one hash for both, and a salt of its size.
        size = digest.digest_size
        verify_rsa_pss(key.key, signature, data, digest, mask_digest=digest, salt_bytes=size)


def _verify_hmac(secret: bytes, signature: bytes, data: bytes, name: str) -> None:
    if not hmac.compare_digest(hmac.digest(secret, data, getattr(hashlib, name)), signature):
        raise EvidenceError(
            "the HMAC does not hold",
            code="signature",
            expected="one by the given secret over exactly these bytes",
        )
