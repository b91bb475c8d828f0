"""The event log format of the TCG: a header that names the algorithms, then records.

Format: TCG PC Client Platform Firmware Profile, section 10.2 (crypto-agile log).  A CC event log
and the log of a TPM are written alike and number their registers differently.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.tdx.cursor import Cursor
from attestation.tdx.events import MAX_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LOG_BYTES = 1 << 20
EV_NO_ACTION = 3
SPEC_ID = b"Spec ID Event03\x00"

_SHA384 = 0x000C
_END = b"\xff\xff\xff\xff"
_PADDING = b"\x00\xff"
# Register, type, number of digests, size of the data: no record has fewer bytes.
_SMALLEST_RECORD = 16

_FIRST = struct.Struct("<II20sI")
_SPEC = struct.Struct("<16sIBBBBI")
_ALGORITHM = struct.Struct("<HH")
_U32 = struct.Struct("<I")
_U16 = struct.Struct("<H")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One record: `digest` is its SHA-384, or empty for one without effect (EV_NO_ACTION)."""

    register: int
    type: int
    digest: bytes
    data: bytes


def parse_records(data: bytes, *, what: str, last_register: int) -> tuple[LogRecord, ...]:
    """Return every record behind the header of a log of at most 1 MiB; `what` names the log.

    1. the first record is the "Spec ID Event03" header, which lists the digest algorithms
    2. every record has a register up to `last_register`, a type, listed digests and its event
       data, all in bounds
    3. every record with an effect has a SHA-384 digest, and none is another header
    4. the log ends at its last byte, or where a record would begin with FF FF FF FF or with
       nothing but zeroes; only padding (FF and 00) follows

    Raises `MalformedError`.
    """
    reader = _Reader(data, what=what)
    if len(data) > MAX_LOG_BYTES:
        raise reader.refusal(f"at most {MAX_LOG_BYTES} bytes", f"{len(data)} bytes")
    records: list[LogRecord] = []
    for record in _records(reader, last_register):
        records.append(record)
        if len(records) > MAX_EVENTS:
            raise reader.refusal(f"at most {MAX_EVENTS} records", "more")
    return tuple(records)


class _Reader(Cursor):
    """A cursor that knows what to call the log."""

    __slots__ = ("what",)

    def __init__(self, data: bytes, *, what: str) -> None:
        super().__init__(data, what=what, code="event_log")
        self.what = what

    def refusal(self, expected: str, observed: str) -> MalformedError:
        return MalformedError(
            f"{self.what} does not parse", code="event_log", expected=expected, observed=observed
        )


def _records(reader: _Reader, last_register: int) -> Iterator[LogRecord]:
    sizes = _spec_id(reader)
    while not _at_end(reader):
        yield _record(reader, sizes, last_register)


def _spec_id(reader: _Reader) -> dict[int, int]:
    """Read the header record and return the digest size of each algorithm."""
    _, kind, _, size = reader.unpack(_FIRST)
    header = _Reader(reader.take(size), what=reader.what)
    signature, _, _, _, _, _, count = header.unpack(_SPEC)
    if kind != EV_NO_ACTION or signature != SPEC_ID:
        raise reader.refusal("a Spec ID Event03 header", "another first record")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, digest_size = header.unpack(_ALGORITHM)
        sizes[algorithm] = digest_size
    if sizes.get(_SHA384) != 48:
        raise reader.refusal("SHA-384 with 48 bytes among the algorithms", "none")
    return sizes


def _record(reader: _Reader, sizes: dict[int, int], last_register: int) -> LogRecord:
    (index,) = reader.unpack(_U32)
    (kind,) = reader.unpack(_U32)
    if index > last_register:
        raise reader.refusal(f"a register from 0 to {last_register}", str(index))
    digests = _digests(reader, sizes)
    (size,) = reader.unpack(_U32)
    data = reader.take(size)
    if data.startswith(SPEC_ID):
        raise reader.refusal("one Spec ID Event03 header", "a second one")
    if kind == EV_NO_ACTION:
        return LogRecord(register=index, type=kind, digest=b"", data=data)
    if _SHA384 not in digests:
        raise reader.refusal("a SHA-384 digest in every record", "a record without one")
    return LogRecord(register=index, type=kind, digest=digests[_SHA384], data=data)


def _digests(reader: _Reader, sizes: dict[int, int]) -> dict[int, bytes]:
    (count,) = reader.unpack(_U32)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        (algorithm,) = reader.unpack(_U16)
        if algorithm not in sizes or algorithm in digests:
            raise reader.refusal("each listed digest algorithm once", f"{algorithm:#06x}")
        digests[algorithm] = reader.take(sizes[algorithm])
    return digests


def _at_end(reader: _Reader) -> bool:
    ends = reader.peek(len(_END)) == _END or not any(reader.peek(_SMALLEST_RECORD))
    if ends and reader.rest().translate(None, _PADDING):
        raise reader.refusal("only padding after the last record", "other bytes")
    return ends
