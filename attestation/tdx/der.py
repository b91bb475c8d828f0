"""The little DER (X.690) that reading Intel's SGX extension takes."""

from __future__ import annotations

from attestation.errors import MalformedError

INTEGER = 0x02
BOOLEAN = 0x01
OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
ENUMERATED = 0x0A
SEQUENCE = 0x30


def read_value(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Split `data` into the contents of its first value, which has `tag`, and what follows it.

    Only definite lengths in their shortest form are read, as DER demands.  Raises
    `MalformedError` (code "der").
    """
    if len(data) < 2 or data[0] != tag:
        raise _malformed(f"tag {tag:#04x}")
    length, start = data[1], 2
    if length >= 0x80:
        size = length - 0x80
        if size not in (1, 2):
            raise _malformed("a length of at most two bytes")
        start = 2 + size
        length = int.from_bytes(data[2:start], "big")
        if length < (0x80 if size == 1 else 0x100):
            raise _malformed("the shortest form of a length")
    if len(data) - start < length:
        raise _malformed(f"{length} bytes of contents")
    return data[start : start + length], data[start + length :]


def read_only_value(data: bytes, tag: int) -> bytes:
    """Like `read_value`, and nothing follows."""
    contents, rest = read_value(data, tag)
    if rest:
        raise _malformed("nothing after the value")
    return contents


def read_integer(data: bytes, *, maximum: int) -> int:
    """Read one INTEGER from 0 to `maximum`, in its shortest form."""
    contents = read_only_value(data, INTEGER)
    value = int.from_bytes(contents, "big")
    # A set top bit would be a negative number, and fails the length as well.
    if value > maximum or len(contents) != value.bit_length() // 8 + 1:
        raise _malformed(f"an integer from 0 to {maximum} in its shortest form")
    return value


def read_boolean(data: bytes) -> bool:
    """Read one BOOLEAN, 00 or FF."""
    contents = read_only_value(data, BOOLEAN)
    if contents not in (b"\x00", b"\xff"):
        raise _malformed("a boolean of 00 or FF")
    return contents == b"\xff"


def read_octets(data: bytes, *, length: int) -> bytes:
    """Read one OCTET STRING of `length` bytes."""
    contents = read_only_value(data, OCTET_STRING)
    if len(contents) != length:
        raise _malformed(f"{length} bytes")
    return contents


def _malformed(expected: str) -> MalformedError:
    return MalformedError("a DER value does not parse", code="der", expected=expected)
