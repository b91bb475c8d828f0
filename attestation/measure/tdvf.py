"""The TDX metadata in a firmware image: which parts of it are loaded where, and measured how.

Format: Intel TDX Virtual Firmware Design Guide (344991-004), section 11; where it lies: OVMF's
table of GUIDs, read backwards from 32 bytes before the end of the file (OvmfPkg/ResetVector).
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from attestation.measure.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FIRMWARE_BYTES = 64 << 20
MAX_SECTIONS = 64
MAX_MEMORY_BYTES = 256 << 20
PAGE_BYTES = 4096

_TABLE_END = 32
_FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
_METADATA = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le
_ENTRY_TAIL = struct.Struct("<H16s")
_U32 = struct.Struct("<I")
_DESCRIPTOR = struct.Struct("<4sIII")
_SECTION = struct.Struct("<IIQQII")
_ADDRESSES = 1 << 52


class SectionType(IntEnum):
    """What a section is; the numbers are the design guide's."""

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6
    TD_INFO = 7
    TD_PARAMS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: `raw` are its bytes in the file, `memory` its size in the guest at `address`.

    `extended`: its content is measured into MRTD (MR.EXTEND); `augmented`: its pages are added
    when the guest runs and not measured at all (PAGE.AUG).
    """

    type: SectionType
    raw: bytes
    address: int
    memory: int
    extended: bool
    augmented: bool

    @property
    def content(self) -> bytes:
        """What is in memory: the bytes of the file, then zeroes."""
        return self.raw.ljust(self.memory, b"\0")


def parse_tdvf(firmware: bytes) -> tuple[Section, ...]:
    """Return the sections that a firmware image declares for TDX, in the order of the file.

    1. the table of GUIDs stands before the last 32 bytes and names the metadata
    2. the metadata is a "TDVF" descriptor of version 1 with 1 to `MAX_SECTIONS` sections
    3. each lies within the file, is made of whole pages, and overlaps no other in memory; all of
       them together have at most `MAX_MEMORY_BYTES`
    4. there is a boot volume (BFV), one TD HOB and at most one variable store (CFV)

    Raises `MalformedError`, also for firmware without TDX support.
    """
    window = Window(firmware, what="the firmware", code="firmware")
    if len(firmware) > MAX_FIRMWARE_BYTES:
        raise window.refusal(f"at most {MAX_FIRMWARE_BYTES} bytes", f"{len(firmware)} bytes")
    at = _metadata_offset(window)
    signature, length, version, count = window.unpack(_DESCRIPTOR, at)
    if signature != b"TDVF" or version != 1 or not 1 <= count <= MAX_SECTIONS:
        raise window.refusal(
            f"a TDVF descriptor of version 1 with 1 to {MAX_SECTIONS} sections",
            f"{signature!a}, version {version}, {count} sections",
        )
    if length != _DESCRIPTOR.size + count * _SECTION.size:
        raise window.refusal("a descriptor as long as its sections", f"{length} bytes")
    first = at + _DESCRIPTOR.size
    sections = tuple(_section(window, first + i * _SECTION.size) for i in range(count))
    _require_layout(window, sections)
    return sections


def _metadata_offset(window: Window) -> int:
    for guid, data in _entries(window):
        if guid == _METADATA:
            if len(data) != _U32.size:
                raise window.refusal("an offset of 4 bytes", f"{len(data)} bytes")
            return len(window.data) - int(_U32.unpack(data)[0])
    raise window.refusal(
        "an entry for TDX metadata in the firmware's table of GUIDs",
        "none",
        "build OVMF for TDX, or take a package that is (Debian: ovmf, ovmf-inteltdx)",
    )


def _entries(window: Window) -> Iterator[tuple[bytes, bytes]]:
    """Yield (GUID, data) of each entry of the table, from its end backwards."""
    if len(window.data) < _TABLE_END + _ENTRY_TAIL.size:
        raise window.refusal("an image of firmware", f"{len(window.data)} bytes")
    end = len(window.data) - _TABLE_END
    length, guid = window.unpack(_ENTRY_TAIL, end - _ENTRY_TAIL.size)
    if guid != _FOOTER:
        raise window.refusal("a table of GUIDs before the last 32 bytes", "other bytes")
    start = end - length
    at = end - _ENTRY_TAIL.size
    window.require(start, length)
    while at > start:
        size, guid = window.unpack(_ENTRY_TAIL, at - _ENTRY_TAIL.size)
        if size < _ENTRY_TAIL.size or at - size < start:
            raise window.refusal("entries that fill the table of GUIDs", f"one of {size} bytes")
        yield guid, window.take(at - size, size - _ENTRY_TAIL.size)
        at -= size


def _section(window: Window, at: int) -> Section:
    offset, size, address, memory, kind, attributes = window.unpack(_SECTION, at)
    if kind not in set(SectionType) or attributes & ~3:
        raise window.refusal(
            "a section type from 0 to 8 and attributes of two bits",
            f"type {kind}, attributes {attributes:#x}",
            "a newer design guide needs a newer version of this program",
        )
    if address + memory > _ADDRESSES or size > memory:
        raise window.refusal(
            "sections in the guest's memory that hold their data",
            f"{size} bytes for {memory} at {address:#x}",
        )
    if (address | memory) % PAGE_BYTES:
        raise window.refusal("sections made of whole pages", f"{memory} bytes at {address:#x}")
    return Section(
        type=SectionType(kind),
        raw=window.take(offset, size),
        address=address,
        memory=memory,
        extended=bool(attributes & 1),
        augmented=bool(attributes & 2),
    )


def _require_layout(window: Window, sections: tuple[Section, ...]) -> None:
    kinds = [section.type for section in sections]
    counts = {kind: kinds.count(kind) for kind in SectionType}
    if (
        not counts[SectionType.BFV]
        or counts[SectionType.TD_HOB] != 1
        or counts[SectionType.CFV] > 1
    ):
        raise window.refusal(
            "a boot volume (BFV), one TD HOB and at most one variable store (CFV)",
            ", ".join(f"{counts[kind]} {kind.name}" for kind in list(SectionType)[:3]),
        )
    total = sum(section.memory for section in sections)
    if total > MAX_MEMORY_BYTES:
        raise window.refusal(f"at most {MAX_MEMORY_BYTES} bytes in all", f"{total} bytes")
    end = 0
    for section in sorted(sections, key=lambda section: section.address):
        if section.address < end:
            raise window.refusal("sections apart in memory", f"two at {section.address:#x}")
        end = section.address + section.memory
