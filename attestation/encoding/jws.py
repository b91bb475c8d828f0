"""JWS compact serialisation (RFC 7515 section 7.1) with Ed25519-sized signatures, parsed strictly.

JWT libraries accept duplicate members, padding and several spellings of one token.  Here a
token has one spelling, and its digest covers what is signed: a signature has more than one
accepted form in some schemes, the signing input never has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation.encoding import base64url, jcs
from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import JsonLimits, parse_json_object
from attestation.errors import MalformedError

SIGNATURE_BYTES = 64
_LIMITS = JsonLimits(max_depth=16, max_members=512)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactJws:
    """A token whose three parts parse; nothing is said about who signed it."""

    header: dict[str, Any]
    payload: dict[str, Any]
    payload_bytes: bytes
    signing_input: bytes
    signature: bytes
    token: str

    @property
    def digest(self) -> Digest:
        """SHA-256 of the signing input `header.payload` (ASCII), not of the token."""
        return Digest.of(self.signing_input)


def parse_compact_jws(
    token: str | bytes, *, what: str = "the token", max_bytes: int = 4096
) -> CompactJws:
    """Return the parts of `token`.

    Guarantees: at most `max_bytes` ASCII characters, exactly two dots, every part canonical
    base64url, header and payload strict JSON objects, a signature of 64 bytes.  Raises
    `MalformedError`.
    """
    text = _ascii(token, what, max_bytes)
    parts = text.split(".")
    if len(parts) != 3:
        raise MalformedError(
            f"{what} is not a compact JWS",
            code="jws",
            expected="three parts separated by dots",
            observed=f"{len(parts)} parts",
        )
    header, payload, signature = parts
    payload_bytes = base64url.decode(payload, what=f"the payload of {what}")
    return CompactJws(
        header=parse_json_object(base64url.decode(header, what=f"the header of {what}"), _LIMITS),
        payload=parse_json_object(payload_bytes, _LIMITS),
        payload_bytes=payload_bytes,
        signing_input=f"{header}.{payload}".encode("ascii"),
        signature=base64url.decode(
            signature, what=f"the signature of {what}", length=SIGNATURE_BYTES
        ),
        token=text,
    )


def encode_signing_input(header: dict[str, Any], payload: dict[str, Any]) -> bytes:
    """Return `header.payload` in ASCII, both parts as canonical JSON in base64url."""
    parts = (base64url.encode(jcs.canonicalize(part)) for part in (header, payload))
    return ".".join(parts).encode("ascii")


def assemble(signing_input: bytes, signature: bytes) -> str:
    """Return the compact token of a signing input and its 64-byte signature."""
    if len(signature) != SIGNATURE_BYTES:
        raise MalformedError(
            "a JWS signature has the wrong length",
            code="jws",
            expected=f"{SIGNATURE_BYTES} bytes",
            observed=f"{len(signature)} bytes",
        )
    return f"{signing_input.decode('ascii')}.{base64url.encode(signature)}"


def _ascii(token: str | bytes, what: str, max_bytes: int) -> str:
    if len(token) > max_bytes:
        raise MalformedError(
            f"{what} is too large",
            code="size",
            expected=f"at most {max_bytes} bytes",
            observed=f"{len(token)} bytes",
        )
    if not token.isascii():
        raise MalformedError(f"{what} is not a compact JWS", code="jws", expected="only ASCII")
    return token if isinstance(token, str) else token.decode("ascii")
