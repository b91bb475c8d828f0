"""The input bytes of a case, in the three forms that vectors give them in."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from typing import Any

from attestation.conformance.files import require_text
from attestation.errors import MalformedError

MAX_INPUT_BYTES = 1 << 26
_FORMS = ("bytes_b64", "zlib_b64", "repeat_b64")


def case_bytes(members: dict[str, Any], what: str) -> bytes:
    """Return the input of a case.

    Exactly one of `bytes_b64`, `zlib_b64` (with `length` and `sha256`) and `repeat_b64` (a unit
    repeated and cut to `length`); the first two must have the `sha256` given.  At most 64 MiB.
    Raises `MalformedError` (code "case").
    """
    forms = [form for form in _FORMS if form in members]
    if len(forms) != 1:
        raise _bad(what, "exactly one of " + ", ".join(_FORMS), f"{len(forms)} of them")
    data = decode_base64(members, forms[0], what)
    if forms[0] == "repeat_b64":
        return _repeat(data, _length(members, what), what)
    if forms[0] == "zlib_b64":
        data = _inflate(data, _length(members, what), what)
        require_text(members, "sha256", what)
    if "sha256" in members and hashlib.sha256(data).hexdigest() != members["sha256"]:
        raise _bad(what, "input bytes of the SHA-256 it states", "other bytes")
    return data


def decode_base64(members: dict[str, Any], name: str, what: str) -> bytes:
    """Return the bytes of a member in padded standard base64 (RFC 4648 section 4)."""
    try:
        return base64.b64decode(require_text(members, name, what), validate=True)
    except (binascii.Error, ValueError):
        # ValueError: characters outside ASCII.
        raise _bad(what, f"standard base64 in {name}", "something else") from None


def _length(members: dict[str, Any], what: str) -> int:
    length = members.get("length")
    if type(length) is not int or not 0 <= length <= MAX_INPUT_BYTES:
        raise _bad(what, f"a length of 0 to {MAX_INPUT_BYTES}", "none or another")
    return length


def _repeat(unit: bytes, length: int, what: str) -> bytes:
    if not unit:
        raise _bad(what, "at least one byte to repeat", "none")
    return (unit * -(-length // len(unit)))[:length]


def _inflate(data: bytes, length: int, what: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        # One byte more than promised tells a longer stream from an exact one, and no more
        # than that is ever held.
        inflated = inflater.decompress(data, length + 1)
    except zlib.error:
        raise _bad(what, "a zlib stream", "something else") from None
    if len(inflated) != length or not inflater.eof:
        raise _bad(what, f"a zlib stream of {length} bytes", "another length")
    return inflated


def _bad(what: str, expected: str, observed: str) -> MalformedError:
    return MalformedError(
        f"the case {what[:80]!a} is not usable", code="case", expected=expected, observed=observed
    )
