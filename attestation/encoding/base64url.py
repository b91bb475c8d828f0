"""base64url without padding (RFC 4648 section 5, RFC 7515 section 2), in its one canonical form."""

from __future__ import annotations

import base64
import binascii
import re

from attestation.errors import MalformedError

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_URL = bytes.maketrans(b"+/", b"-_")
# The last characters whose unused bits are zero, by the length of the text modulo 4.
_LAST = {2: "AQgw", 3: "AEIMQUYcgkosw048"}


def encode(data: bytes) -> str:
    """Return the unpadded base64url text of `data`."""
    # In one pass, which for digests is the quicker way: every receipt takes eight of them.
    return binascii.b2a_base64(data, newline=False).translate(_URL, b"=").decode("ascii")


def encode_ascii(data: bytes) -> bytes:
    """As `encode`, in ASCII: the quicker way for what is longer, such as a whole payload."""
    text = binascii.b2a_base64(data, newline=False).replace(b"+", b"-").replace(b"/", b"_")
    return text.rstrip(b"=")


def decode(text: str, *, what: str = "base64url text", length: int | None = None) -> bytes:
    """Return the bytes whose only encoding is `text`.

    Refuses padding, characters outside the alphabet and non-zero unused bits, so that two
    different texts never stand for the same bytes.  `length`, if given, is the number of bytes
    that must result.  Raises `MalformedError`.
    """
    if not _ALPHABET.fullmatch(text):
        raise MalformedError(
            f"{what} is not base64url",
            code="base64url",
            expected="only A-Z a-z 0-9 - _ and no padding",
        )
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise MalformedError(
            f"{what} is not base64url", code="base64url", observed=f"{len(text)} characters"
        ) from error
    if text and text[-1] not in _LAST.get(len(text) % 4, text[-1]):
        raise MalformedError(
            f"{what} is not canonical base64url",
            code="base64url",
            expected="unused bits of the last character to be zero",
        )
    if length is not None and len(data) != length:
        raise MalformedError(
            f"{what} has the wrong length",
            code="base64url",
            expected=f"{length} bytes",
            observed=f"{len(data)} bytes",
        )
    return data
