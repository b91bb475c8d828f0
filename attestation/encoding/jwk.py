"""Ed25519 public keys as JSON Web Keys (RFC 8037) named by their thumbprint (RFC 7638)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.encoding.members import Members
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Jwk:
    """An Ed25519 public key: its 32 bytes and the thumbprint that names it."""

    raw: bytes
    kid: str


def thumbprint(raw: bytes) -> str:
    """Return the RFC 7638 SHA-256 thumbprint (base64url) of a 32-byte Ed25519 public key."""
    _require_length(raw)
    required = {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(raw)}
    return Digest.of(jcs.canonicalize(required)).base64url


def public_jwk(raw: bytes) -> dict[str, str]:
    """Return the JWK of a 32-byte Ed25519 public key, with its thumbprint as `kid`."""
    return {
        "crv": "Ed25519",
        "kid": thumbprint(raw),
        "kty": "OKP",
        "x": base64url.encode(raw),
    }


def parse_public_jwk(value: JsonValue, *, what: str = "the public key") -> Jwk:
    """Return the key that `value` is the JWK of.

    Exactly the members `crv`, `kid`, `kty` and `x`, and `kid` is the key's own thumbprint, so
    that a key has one name.  Raises `MalformedError`.
    """
    members = Members(value, what)
    members.text("crv", choices=("Ed25519",))
    members.text("kty", choices=("OKP",))
    raw = members.bytes_base64url("x", length=KEY_BYTES)
    kid = members.text("kid")
    members.close()
    if kid != thumbprint(raw):
        raise MalformedError(
            f"{what} has a kid that is not its thumbprint",
            code="jwk",
            expected=f"kid {thumbprint(raw)}",
        )
    return Jwk(raw=raw, kid=kid)


def _require_length(raw: bytes) -> None:
    if len(raw) != KEY_BYTES:
        raise MalformedError(
            "an Ed25519 public key has the wrong length",
            code="jwk",
            expected=f"{KEY_BYTES} bytes",
            observed=f"{len(raw)} bytes",
        )
