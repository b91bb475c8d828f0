"""Signatures over bytes by a public key that the caller chose, in their standard encodings.

The algorithm is the caller's to say, from the key it holds: nothing here reads it from data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

EdwardsPublicKey = Ed25519PublicKey | Ed448PublicKey
PublicKey = ec.EllipticCurvePublicKey | EdwardsPublicKey | RSAPublicKey


def parse_public_key(der: bytes) -> PublicKey:
    """Return the key of a SubjectPublicKeyInfo (RFC 5280 section 4.1): EC, Ed25519, Ed448, RSA.

    A point that is not on its curve is no key.  Raises `MalformedError` (code "public_key").
    """
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, PublicKey):
        raise MalformedError(
            "the public key does not parse",
            code="public_key",
            expected="a SubjectPublicKeyInfo of an EC, Ed25519, Ed448 or RSA key",
        )
    return key


def verify_ecdsa_der(
    key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, digest: HashAlgorithm
) -> None:
    """Show that `signature`, a DER sequence of r and s (RFC 3279 section 2.2.3), is of `data`.

    Only the DER encoding: no other form of BER, nothing behind it.  Raises `EvidenceError`.
    """
    try:
        key.verify(signature, data, ec.ECDSA(digest))
    except InvalidSignature:
        raise _no_signature("ECDSA") from None


def verify_ecdsa_fixed(
    key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, digest: HashAlgorithm
) -> None:
    """Show that `signature`, r then s in as many bytes as the curve's field has, is of `data`.

    The form of IEEE P1363 and RFC 7518 section 3.4.  Raises `EvidenceError`.
    """
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise _no_signature("ECDSA", f"{2 * size} bytes", f"{len(signature)} bytes")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    verify_ecdsa_der(key, encode_dss_signature(r, s), data, digest)


def verify_eddsa(key: EdwardsPublicKey, signature: bytes, data: bytes) -> None:
    """Show that `signature` (RFC 8032, without context) is of `data`.  Raises `EvidenceError`."""
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise _no_signature("EdDSA") from None


def verify_rsa_pkcs1(
    key: RSAPublicKey, signature: bytes, data: bytes, digest: HashAlgorithm
) -> None:
    """Show that `signature` (RFC 8017 section 8.2, PKCS #1 v1.5) is of `data`.

    Raises `EvidenceError`.
    """
    try:
        key.verify(signature, data, padding.PKCS1v15(), digest)
    except InvalidSignature:
        raise _no_signature("RSA PKCS #1 v1.5") from None


def verify_rsa_pss(
    key: RSAPublicKey,
    signature: bytes,
    data: bytes,
    digest: HashAlgorithm,
    *,
    mask_digest: HashAlgorithm,
    salt_bytes: int,
) -> None:
    """Show that `signature` (RFC 8017 section 8.1, MGF1, exactly `salt_bytes`) is of `data`.

    Raises `EvidenceError`.
    """
    scheme = padding.PSS(mgf=padding.MGF1(mask_digest), salt_length=salt_bytes)
    try:
        key.verify(signature, data, scheme, digest)
    except InvalidSignature:
        raise _no_signature("RSA PSS") from None


def _no_signature(scheme: str, expected: str = "", observed: str = "") -> EvidenceError:
    return EvidenceError(
        f"the {scheme} signature does not hold",
        code="signature",
        expected=expected or "a signature by the given key over exactly these bytes",
        observed=observed,
    )
