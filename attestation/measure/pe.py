"""PE/COFF images: their sections, and the Authenticode digest that firmware measures.

Formats: Microsoft PE Format; Windows Authenticode Portable Executable Signature Format,
"Calculating the PE Image Hash".  Firmware follows it in DxeTpm2MeasureBootLib (edk2, SecurityPkg).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from attestation.measure.window import Window

MAX_IMAGE_BYTES = 1 << 30
MAX_SECTIONS = 96

_DOS_BYTES = 64
_PE_AT = 0x3C
_SIGNATURE = b"PE\0\0"
_U32 = struct.Struct("<I")
_COFF = struct.Struct("<HHIIIHH")
_U16 = struct.Struct("<H")
_PE32, _PE32_PLUS = 0x10B, 0x20B
_CHECKSUM_AT = 64
_HEADERS_SIZE_AT = 60
# Where the number of data directories stands in the optional header; they follow it.
_DIRECTORIES_AT = {_PE32: 92, _PE32_PLUS: 108}
_CERTIFICATE_TABLE = 4
_DIRECTORY = struct.Struct("<II")
_SECTION = struct.Struct("<8sIIIIIIHHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeSection:
    """A section: `raw` are its bytes in the file, `memory` its size once loaded."""

    name: str
    offset: int
    raw: bytes
    memory: int

    @property
    def content(self) -> bytes:
        """What is in memory: the bytes of the file, cut or filled with zeroes to `memory`."""
        return self.raw[: self.memory].ljust(self.memory, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeImage:
    """A parsed image; `unsigned_end` is where the certificate table begins, or the file ends.

    `checksum_at` and `directory_at` are the two fields that a signature changes; the latter is
    None where the image has no place for a signature.
    """

    data: bytes
    headers_size: int
    checksum_at: int
    directory_at: int | None
    unsigned_end: int
    sections: tuple[PeSection, ...]

    def authenticode(self, algorithm: str = "sha384") -> bytes:
        """Return the image's Authenticode digest: the same before and after signing.

        1. the headers without checksum and without the directory entry of the certificates
        2. the sections in the order of the file
        3. what follows them, without the certificates; as the format has it, that begins where as
           many bytes of the file end as were looked at so far, gaps between sections or not
        """
        digest = hashlib.new(algorithm)
        at = 0
        for skipped, size in self._skipped:
            digest.update(self.data[at:skipped])
            at = skipped + size
        digest.update(self.data[at : self.headers_size])
        hashed = self.headers_size
        for section in sorted(self.sections, key=lambda section: section.offset):
            digest.update(section.raw)
            hashed += len(section.raw)
        digest.update(self.data[hashed : self.unsigned_end])
        return digest.digest()

    @property
    def _skipped(self) -> list[tuple[int, int]]:
        checksum = (self.checksum_at, _U32.size)
        if self.directory_at is None:
            return [checksum]
        return [checksum, (self.directory_at, _DIRECTORY.size)]

    def sections_named(self, name: str) -> list[PeSection]:
        """Return the sections of this name in the order of the section table."""
        return [section for section in self.sections if section.name == name]


def parse_pe(data: bytes, *, what: str = "the image") -> PeImage:
    """Return a PE32 or PE32+ image of at most 1 GiB; `what` names it in messages.

    1. DOS header, PE signature, COFF header and optional header lie within the file
    2. at most `MAX_SECTIONS` sections; the headers cover their table
    3. sections lie within the file, behind the headers, and do not overlap
    4. a certificate table ends with the file, and no section lies in it

    Raises `MalformedError`.
    """
    window = Window(data, what=what, code="pe")
    if len(data) > MAX_IMAGE_BYTES:
        raise window.refusal(f"at most {MAX_IMAGE_BYTES} bytes", f"{len(data)} bytes")
    if window.take(0, _DOS_BYTES)[:2] != b"MZ":
        raise window.refusal('a PE image, which begins with "MZ"', "other bytes")
    (pe,) = window.unpack(_U32, _PE_AT)
    if window.take(pe, len(_SIGNATURE)) != _SIGNATURE:
        raise window.refusal("a PE signature where the DOS header says", "other bytes")
    coff = pe + len(_SIGNATURE)
    _, count, _, _, _, optional_size, _ = window.unpack(_COFF, coff)
    optional = coff + _COFF.size
    table = optional + optional_size
    (headers_size,) = window.unpack(_U32, optional + _HEADERS_SIZE_AT)
    if count > MAX_SECTIONS or headers_size < table + count * _SECTION.size:
        raise window.refusal(
            f"headers that hold at most {MAX_SECTIONS} sections", f"{count} sections"
        )
    window.require(0, headers_size)
    directory = _certificate_directory(window, optional, optional_size)
    unsigned_end = len(data) if directory is None else _unsigned_end(window, directory)
    sections = tuple(_section(window, table + i * _SECTION.size) for i in range(count))
    _require_apart(window, sections, headers_size, unsigned_end)
    return PeImage(
        data=data,
        headers_size=headers_size,
        checksum_at=optional + _CHECKSUM_AT,
        directory_at=directory,
        unsigned_end=unsigned_end,
        sections=sections,
    )


def _certificate_directory(window: Window, optional: int, size: int) -> int | None:
    """Return where the directory entry of the certificate table stands, None without one."""
    (magic,) = window.unpack(_U16, optional)
    if magic not in _DIRECTORIES_AT:
        raise window.refusal("a PE32 or PE32+ optional header", f"magic {magic:#06x}")
    at = optional + _DIRECTORIES_AT[magic]
    (count,) = window.unpack(_U32, at)
    first = at + _U32.size
    if first + count * _DIRECTORY.size > optional + size:
        raise window.refusal("data directories within the optional header", f"{count}")
    return first + _CERTIFICATE_TABLE * _DIRECTORY.size if count > _CERTIFICATE_TABLE else None


def _unsigned_end(window: Window, directory: int) -> int:
    offset, size = window.unpack(_DIRECTORY, directory)
    if not size:
        return len(window.data)
    if offset + size != len(window.data):
        raise window.refusal(
            "a certificate table at the end of the file", f"{size} bytes at {offset:#x}"
        )
    return int(offset)


def _section(window: Window, at: int) -> PeSection:
    name, memory, _, size, offset, *_ = window.unpack(_SECTION, at)
    if memory > MAX_IMAGE_BYTES:
        raise window.refusal(f"sections of at most {MAX_IMAGE_BYTES} bytes", f"{memory} bytes")
    return PeSection(
        name=name.rstrip(b"\0").decode("latin-1"),
        offset=offset if size else 0,
        raw=window.take(offset, size) if size else b"",
        memory=memory,
    )


def _require_apart(window: Window, sections: tuple[PeSection, ...], start: int, end: int) -> None:
    for section in sorted(sections, key=lambda section: section.offset):
        if not section.raw:
            continue
        if section.offset < start:
            raise window.refusal(
                "sections behind the headers and apart", f"{section.name!a} at {section.offset:#x}"
            )
        start = section.offset + len(section.raw)
    if start > end:
        raise window.refusal("sections before the certificate table", "one that reaches into it")
