r"""Segment files, the truth of a boot's log: framed, checksummed records, only ever appended to.

    segment = "attested-gateway/segment/1\n" record*
    record  = length (4 bytes, big-endian, of the payload) ‖ kind (1 byte) ‖ payload ‖ check
    check   = the first 8 bytes of SHA-256(length ‖ kind ‖ payload)

    kind  payload
    00    leaf: the canonical boot statement
    01    leaf: jti (16) ‖ owner (32) ‖ compact JWS of the receipt
    02    leaf: canonical JSON of an epoch: statement, quote, checkpoint, collateral digest
    B0    batch: its number in the boot (8 bytes)
    C0    a signed checkpoint note
    F0    header: bootseed (32) ‖ segment number (4) ‖ index of the first leaf (8) ‖ SHA-256 of
          the last frame of the segment before (32 zero bytes in segment 0)

A segment starts with its header.  Everything after it stands in batches; what is appended
together is one batch, and a batch is begun only once the one before it is on the medium.  So
damage that a later batch follows is no torn write: that is how the two are told apart.
Integers are big-endian.  The n-th leaf record of a boot is leaf n of its log.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

from attestation.errors import MalformedError

MAGIC = b"attested-gateway/segment/1\n"
MAX_PAYLOAD_BYTES = 1 << 20
NO_SEGMENT_BEFORE = bytes(32)
_HEAD_BYTES = 5
_CHECK_BYTES = 8
_FRAME_BYTES = _HEAD_BYTES + _CHECK_BYTES
_CHUNK_BYTES = 1 << 20
_HEADER = struct.Struct(">32sIQ32s")
_BATCH = struct.Struct(">Q")
_BATCH_HEAD = _BATCH.size.to_bytes(4, "big") + b"\xb0"
_BATCH_FRAME_BYTES = _FRAME_BYTES + _BATCH.size


class Kind(IntEnum):
    """What a record is; leaves have the type byte of their log entry (SPEC section 3)."""

    BOOT = 0x00
    RECEIPT = 0x01
    EPOCH = 0x02
    BATCH = 0xB0
    CHECKPOINT = 0xC0
    HEADER = 0xF0


LEAF_KINDS = frozenset({Kind.BOOT, Kind.RECEIPT, Kind.EPOCH})
_KINDS = {int(kind): kind for kind in Kind}


class Location(NamedTuple):
    """Where a record is: the number of its segment and the offset in that file."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record whose check held: where it starts and ends in the file, kind and payload."""

    offset: int
    end: int
    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a segment says of itself; `before` is the SHA-256 of the last frame before it."""

    bootseed: bytes
    number: int
    first_leaf: int
    before: bytes

    def encode(self) -> bytes:
        """Return the framed header record."""
        payload = _HEADER.pack(self.bootseed, self.number, self.first_leaf, self.before)
        return encode_record(Kind.HEADER, payload)


class SegmentError(MalformedError):
    """A segment whose records end at `offset` although the file goes on.

    Code "segment_torn": the file ends inside a record and nothing later follows, as a crash
    leaves it.  "segment_damaged": anything else.  `followed` says that a whole later batch
    stands behind the fault, so that those bytes were on the medium once.
    """

    def __init__(self, *, offset: int, torn: bool, followed: bool) -> None:
        super().__init__(
            "a segment of the log ends inside a record" if torn else "a segment is damaged",
            code="segment_torn" if torn else "segment_damaged",
            expected="whole records to the end of the file",
            observed=f"something else at byte {offset}",
        )
        self.offset = offset
        self.torn = torn
        self.followed = followed


ReadAt = Callable[[int, int], bytes]
"""`read(length, offset)` returns at most `length` bytes of the file, none at its end."""


def encode_record(kind: int, payload: bytes) -> bytes:
    """Return the framed bytes of a record."""
    framed = len(payload).to_bytes(4, "big") + bytes((kind,)) + payload
    return framed + sha256(framed).digest()[:_CHECK_BYTES]


def encode_batch(number: int) -> bytes:
    """Return the framed record that begins a batch."""
    return encode_record(Kind.BATCH, _BATCH.pack(number))


def is_leaf(frame: bytes) -> bool:
    """Whether a framed record is a leaf of the log."""
    return frame[4] in LEAF_KINDS


def parse_header(record: Record) -> Header:
    """Return the header in a record.  Raises `MalformedError` (code "segment_header")."""
    if record.kind is not Kind.HEADER or len(record.payload) != _HEADER.size:
        raise _malformed("segment_header", "a header of a segment")
    bootseed, number, first_leaf, before = _HEADER.unpack(record.payload)
    return Header(bootseed=bootseed, number=number, first_leaf=first_leaf, before=before)


def parse_batch(record: Record) -> int:
    """Return the number of the batch a record begins.  Raises `MalformedError`."""
    if record.kind is not Kind.BATCH or len(record.payload) != _BATCH.size:
        raise _malformed("segment_batch", "the record that begins a batch")
    (number,) = _BATCH.unpack(record.payload)
    return int(number)


def parse_record(framed: bytes, offset: int) -> Record:
    """Return the record in exactly these bytes, which start at `offset` of the file.

    Raises `MalformedError` (code "segment_damaged") if they are not one whole record.
    """
    length = int.from_bytes(framed[:4], "big")
    kind = _KINDS.get(framed[4]) if len(framed) == length + _FRAME_BYTES else None
    body = framed[:-_CHECK_BYTES]
    if kind is None or sha256(body).digest()[:_CHECK_BYTES] != framed[-_CHECK_BYTES:]:
        raise _malformed("segment_damaged", "a whole record")
    return Record(offset=offset, end=offset + len(framed), kind=kind, payload=body[_HEAD_BYTES:])


def read_record(read: ReadAt, offset: int) -> Record:
    """Return the record that starts at `offset`.  Raises `MalformedError` if none does."""
    length = int.from_bytes(read_exactly(read, _HEAD_BYTES, offset)[:4], "big")
    if length > MAX_PAYLOAD_BYTES:
        raise _malformed("segment_damaged", "a whole record")
    return parse_record(read_exactly(read, length + _FRAME_BYTES, offset), offset)


def read_exactly(read: ReadAt, length: int, offset: int) -> bytes:
    """Return `length` bytes from `offset`, fewer only where the file ends."""
    data = read(length, offset)
    while data and len(data) < length:
        more = read(length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def parse_segment(data: bytes) -> list[Record]:
    """Return the records of a whole segment: header first, batches after it.

    Raises `SegmentError`, or `MalformedError` if the first record is no header.
    """
    records = list(iter_records(lambda length, offset: data[offset : offset + length]))
    parse_header(records[0])
    return records


def iter_records(read: ReadAt, start: int = 0) -> Iterator[Record]:
    """Yield the records of a segment in order, from its beginning or from a record's offset.

    Raises `SegmentError` at the first byte that is not part of a whole record; the header is not
    interpreted, but there is a first record.  A few MiB are held at a time, whatever is there.
    """
    if start == 0:
        if read_exactly(read, len(MAGIC), 0) != MAGIC:
            raise _fault(read, 0)
        start = len(MAGIC)
    elif start < len(MAGIC):
        raise _fault(read, start)
    yield from _frames(read, start)


class _Window:
    """A file read in chunks: most records cost no call."""

    def __init__(self, read: ReadAt) -> None:
        self._read = read
        self._base = 0
        self._data = b""

    def get(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only where the file ends."""
        at = offset - self._base
        if at + length > len(self._data):
            self._data = read_exactly(self._read, max(_CHUNK_BYTES, length), offset)
            self._base, at = offset, 0
        return self._data[at : at + length]


def _frames(read: ReadAt, start: int) -> Iterator[Record]:
    window, offset = _Window(read), start
    while head := window.get(_HEAD_BYTES, offset):
        length = min(int.from_bytes(head[:4], "big"), MAX_PAYLOAD_BYTES)
        try:
            record = parse_record(window.get(length + _FRAME_BYTES, offset), offset)
        except MalformedError:
            raise _fault(read, offset) from None
        yield record
        offset = record.end
    if offset == len(MAGIC):
        raise _fault(read, offset)


def _fault(read: ReadAt, offset: int) -> SegmentError:
    start = read_exactly(read, MAX_PAYLOAD_BYTES + _FRAME_BYTES, offset)
    followed = _is_followed(read, offset + 1)
    return SegmentError(
        offset=offset, torn=not followed and _is_cut(start, offset), followed=followed
    )


def _is_followed(read: ReadAt, offset: int) -> bool:
    """Whether the whole mark of a batch stands at `offset` or anywhere after it."""
    kept = b""
    while part := read(_CHUNK_BYTES, offset):
        offset += len(part)
        piece = kept + part
        at = piece.find(_BATCH_HEAD)
        while at >= 0:
            if _is_record(piece[at : at + _BATCH_FRAME_BYTES]):
                return True
            at = piece.find(_BATCH_HEAD, at + 1)
        kept = piece[-_BATCH_FRAME_BYTES + 1 :]
    return False


def _is_cut(rest: bytes, offset: int) -> bool:
    """Whether the file ends inside what stands here: the magic, or a record."""
    if offset == 0:
        return MAGIC.startswith(rest[: len(MAGIC)])
    length = int.from_bytes(rest[:4], "big")
    known = len(rest) < _HEAD_BYTES or rest[4] in _KINDS
    return known and length <= MAX_PAYLOAD_BYTES and len(rest) < length + _FRAME_BYTES


def _is_record(framed: bytes) -> bool:
    try:
        parse_record(framed, 0)
    except MalformedError:
        return False
    return True


def _malformed(code: str, expected: str) -> MalformedError:
    return MalformedError(
        "a record of the log is not what was written",
        code=code,
        expected=expected,
        observed="something else",
    )
