"""Reading and writing payloads: JSON arrays of fixed length, closed by their shape.

Arrays instead of objects: no member can be doubled or left over, and both directions take the
standard library's C code.  Everything is ASCII; binary is base64url, digests are hexadecimal.
What crosses the socket for every request is packed instead (announcements, outcomes, receipts).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.receipt.text import MAX_INTEGER

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def refused(expected: str) -> MalformedError:
    """Return the error for a payload that breaks a rule; it never quotes the payload."""
    return MalformedError(
        "a message on the notary's socket is malformed", code="message", expected=expected
    )


def _no_such_number(_text: str) -> NoReturn:
    raise ValueError


_DECODER: Final = json.JSONDecoder(parse_float=_no_such_number, parse_constant=_no_such_number)
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(items: list[Any] | tuple[Any, ...]) -> bytes:
    """Return the payload of a message."""
    return _ENCODE(items).encode("ascii")


def decode(payload: bytes, length: int) -> list[Any]:
    """Return the array of exactly `length` items that `payload` is, or raise `MalformedError`."""
    try:
        text = payload.decode("ascii")
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        raise refused("a JSON array in ASCII, integers only") from None
    if end != len(text) or type(value) is not list or len(value) != length:
        raise refused(f"one JSON array of {length} items and nothing after it")
    return value


def text_of(value: object, pattern: re.Pattern[str]) -> str:
    """Return text that fits `pattern` as a whole."""
    if type(value) is not str or pattern.fullmatch(value) is None:
        raise refused(f"text of the form {pattern.pattern}")
    return value


def optional_text(value: object, pattern: re.Pattern[str]) -> str | None:
    """Return such text, or None for null."""
    return None if value is None else text_of(value, pattern)


def free_text(value: object, limit: int) -> str:
    """Return text of at most `limit` characters that is read by a stricter parser next."""
    if type(value) is not str or len(value) > limit:
        raise refused(f"text of at most {limit} characters")
    if not value.isascii() and _SURROGATE.search(value):
        raise refused("text without lone surrogates")
    return value


def flag(value: object) -> bool:
    """Return a truth value."""
    if type(value) is not bool:
        raise refused("true or false")
    return value


def integer(value: object, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
    """Return an integer within bounds."""
    if type(value) is not int or not minimum <= value <= maximum:
        raise refused(f"an integer from {minimum} to {maximum}")
    return value


def optional_integer(value: object, minimum: int = 0, maximum: int = MAX_INTEGER) -> int | None:
    """Return such an integer, or None for null."""
    return None if value is None else integer(value, minimum, maximum)


def array(value: object, *, longest: int, length: int | None = None) -> list[Any]:
    """Return a list of at most `longest` items, of exactly `length` if that is given."""
    if type(value) is not list or len(value) > longest or length not in (None, len(value)):
        raise refused(f"a list of {'at most ' if length is None else ''}{length or longest} items")
    return value


def digest(value: object) -> Digest:
    """Return a digest written in hexadecimal."""
    if type(value) is not str:
        raise refused("a digest in hexadecimal")
    return Digest.from_hex(value)


def binary(value: object, *, length: int | None = None, longest: int = 1 << 20) -> bytes:
    """Return bytes written in base64url."""
    if type(value) is not str:
        raise refused("bytes in base64url")
    data = base64url.decode(value, what="bytes on the notary's socket", length=length)
    if len(data) > longest:
        raise refused(f"at most {longest} bytes")
    return data
