"""SHA-256 digests as a type, so that hex and base64url meet bytes only at the edges."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from attestation.encoding import base64url
from attestation.errors import MalformedError

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 value of exactly 32 bytes (FIPS 180-4)."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != 32:
            raise MalformedError(
                "a SHA-256 digest has the wrong length",
                code="digest",
                expected="32 bytes",
                observed=f"{len(self.value)} bytes",
            )

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the digest of `data`."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def from_hex(cls, text: str, *, what: str = "digest") -> Digest:
        """Parse 64 lower-case hexadecimal characters, or raise `MalformedError`."""
        if not _HEX.fullmatch(text):
            raise MalformedError(
                f"{what} is not a hexadecimal SHA-256 digest",
                code="digest",
                expected="64 lower-case hexadecimal characters",
            )
        return cls(bytes.fromhex(text))

    @classmethod
    def from_base64url(cls, text: str, *, what: str = "digest") -> Digest:
        """Parse 43 characters of canonical base64url, or raise `MalformedError`."""
        return cls(base64url.decode(text, what=what, length=32))

    @property
    def hex(self) -> str:
        """The digest as statements write it."""
        return self.value.hex()

    @property
    def base64url(self) -> str:
        """The digest as claims write it."""
        return base64url.encode(self.value)

    def __str__(self) -> str:
        return f"sha256:{self.value.hex()[:16]}…"
