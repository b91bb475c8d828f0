"""The partition table of a pack, which has one form: partitions `data` and `verity`.

UEFI specification 2.10, section 5.  Both GUIDs are halves of the root hash, as the Discoverable
Partitions Specification has it for verity: a guest that knows the root hash finds the partitions.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import Final

from attestation.errors import MalformedError

SECTOR_BYTES: Final = 512
ALIGNMENT_BYTES: Final = 1 << 20
HEAD_BYTES: Final = ALIGNMENT_BYTES
"""What comes before the first partition: table, and zeroes up to the alignment."""
_LINUX_DATA: Final = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_ENTRIES: Final = 128
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY_SECTORS: Final = _ENTRIES * _ENTRY.size // SECTOR_BYTES
_TAIL_BYTES: Final = (1 + _ENTRY_SECTORS) * SECTOR_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLayout:
    """Where the two partitions of a pack lie, from its root hash and their sizes in bytes."""

    root: bytes
    data_bytes: int
    verity_bytes: int

    @property
    def data_start(self) -> int:
        """Where the EROFS file system begins."""
        return HEAD_BYTES

    @property
    def verity_start(self) -> int:
        """Where the superblock of the hash tree lies: the next multiple of 1 MiB."""
        return _aligned(self.data_start + self.data_bytes)

    @property
    def size(self) -> int:
        """How many bytes the pack has, its second table included."""
        return _aligned(self.verity_start + self.verity_bytes) + _aligned(_TAIL_BYTES)

    @property
    def data_partuuid(self) -> uuid.UUID:
        """The first half of the root hash."""
        return uuid.UUID(bytes=self.root[:16])

    @property
    def verity_partuuid(self) -> uuid.UUID:
        """The second half of the root hash."""
        return uuid.UUID(bytes=self.root[16:])

    def head(self) -> bytes:
        """Return everything in front of the first partition."""
        table = self._header(own=1, other=self._last_sector, entries_at=2) + self._entries()
        return (_protective(self._last_sector) + table).ljust(HEAD_BYTES, b"\0")

    def tail(self) -> bytes:
        """Return the second table: the last sectors of the pack."""
        entries_at = self._last_sector - _ENTRY_SECTORS
        return self._entries() + self._header(own=self._last_sector, other=1, entries_at=entries_at)

    @property
    def _last_sector(self) -> int:
        return self.size // SECTOR_BYTES - 1

    def _entries(self) -> bytes:
        first = _entry("data", self.data_partuuid, self.data_start, self.data_bytes)
        second = _entry("verity", self.verity_partuuid, self.verity_start, self.verity_bytes)
        return (first + second).ljust(_ENTRIES * _ENTRY.size, b"\0")

    def _header(self, *, own: int, other: int, entries_at: int) -> bytes:
        disk = uuid.UUID(bytes=hashlib.sha256(b"attested-gateway/pack\0" + self.root).digest()[:16])
        fields = (
            b"EFI PART",
            0x00010000,
            _HEADER.size,
            own,
            other,
            2 + _ENTRY_SECTORS,
            self._last_sector - _ENTRY_SECTORS - 1,
            disk.bytes_le,
            entries_at,
            _ENTRIES,
            _ENTRY.size,
            zlib.crc32(self._entries()),
        )
        crc = zlib.crc32(_packed(fields, 0))
        return _packed(fields, crc).ljust(SECTOR_BYTES, b"\0")


def parse_head(head: bytes) -> PackLayout:
    """Return the layout of the pack that begins with these bytes (1 MiB).

    Every byte is the one that a pack with these partitions has.  Raises `MalformedError`.
    """
    if len(head) != HEAD_BYTES:
        raise _malformed(f"{HEAD_BYTES} bytes", f"{len(head)} bytes")
    entries = [_ENTRY.unpack_from(head, 2 * SECTOR_BYTES + at * _ENTRY.size) for at in (0, 1)]
    layout = PackLayout(
        root=b"".join(uuid.UUID(bytes_le=entry[1]).bytes for entry in entries),
        data_bytes=_bytes_of(entries[0]),
        verity_bytes=_bytes_of(entries[1]),
    )
    if layout.size >= 1 << 62 or layout.head() != head:
        raise _malformed("the table that these two partitions have", "another one")
    return layout


def _bytes_of(entry: tuple[bytes, bytes, int, int, int, bytes]) -> int:
    count = entry[3] - entry[2] + 1
    if count < 1:
        raise _malformed("two partitions, each with a sector or more", f"{count} sectors")
    return count * SECTOR_BYTES


def _packed(fields: tuple[bytes | int, ...], crc: int) -> bytes:
    return _HEADER.pack(*fields[:3], crc, 0, *fields[3:])


def _entry(name: str, own: uuid.UUID, start: int, size: int) -> bytes:
    first = start // SECTOR_BYTES
    last = first + size // SECTOR_BYTES - 1
    return _ENTRY.pack(_LINUX_DATA.bytes_le, own.bytes_le, first, last, 0, name.encode("utf-16-le"))


def _protective(last_sector: int) -> bytes:
    size = min(last_sector, 0xFFFFFFFF)
    record = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, size)
    return bytes(446) + record + bytes(48) + b"\x55\xaa"


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "this is no pack",
        code="pack",
        expected=expected,
        observed=observed,
        hint="`python -m enclave_image.packs` makes packs",
    )
