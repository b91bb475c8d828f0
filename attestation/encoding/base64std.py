"""Standard base64 with padding (RFC 4648 section 4), in its one canonical form."""

from __future__ import annotations

import base64
import binascii

from attestation.errors import MalformedError


def encode(data: bytes) -> str:
    """Return the padded base64 text of `data`."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str, *, what: str = "base64 text", length: int | None = None) -> bytes:
    """Return the bytes whose only encoding is `text`.

    Refuses missing or superfluous padding, characters outside the alphabet and non-zero unused
    bits.  `length`, if given, is the number of bytes that must result.  Raises `MalformedError`.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        # ValueError: characters outside ASCII.
        raise MalformedError(
            f"{what} is not base64", code="base64", expected="A-Z a-z 0-9 + / and padding"
        ) from None
    if encode(data) != text:
        raise MalformedError(
            f"{what} is not canonical base64",
            code="base64",
            expected="exact padding and zero unused bits",
        )
    if length is not None and len(data) != length:
        raise MalformedError(
            f"{what} has the wrong length",
            code="base64",
            expected=f"{length} bytes",
            observed=f"{len(data)} bytes",
        )
    return data
