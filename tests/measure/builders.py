"""Firmware, images, disks and variable stores, made by hand from the formats."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
VENDOR = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
TDVF_GUID = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
OTHER_GUID = uuid.UUID("4c2eb361-7d9b-4cc3-8081-127c90d3d294")
FOOTER_GUID = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")

BFV, CFV, HOB, TEMP = 0, 1, 2, 3
Row = tuple[int, int, int, int, int, int]
PAGE = 0x1000
STORE_BYTES = 0x4000
CODE_BYTES = 0x3000
BASE = 0x1_0000_0000 - STORE_BYTES - CODE_BYTES

ROWS: tuple[Row, ...] = (
    (STORE_BYTES, CODE_BYTES, BASE + STORE_BYTES, CODE_BYTES, BFV, 1),
    (0, STORE_BYTES, BASE, STORE_BYTES, CFV, 0),
    (0, 0, 0x810000, 0x10000, TEMP, 0),
    (0, 0, 0x80B000, 0x2000, TEMP, 0),
    (0, 0, 0x809000, 0x2000, HOB, 0),
    (0, 0, 0x800000, 0x6000, TEMP, 0),
)


def entry(guid: uuid.UUID, data: bytes) -> bytes:
    return data + struct.pack("<H16s", len(data) + 18, guid.bytes_le)


def firmware(
    rows: Sequence[Row] = ROWS,
    *,
    store: bytes | None = None,
    descriptor: bytes | None = None,
    extra: bytes | None = None,
) -> bytes:
    """A file of 28 KiB: variable store, then code with the table of GUIDs at its end."""
    store = variable_store({}) if store is None else store
    size = STORE_BYTES + CODE_BYTES
    code = bytearray(bytes(range(256)) * (CODE_BYTES // 256))
    if descriptor is None:
        descriptor = struct.pack("<4sIII", b"TDVF", 16 + 32 * len(rows), 1, len(rows))
        descriptor += b"".join(struct.pack("<IIQQII", *row) for row in rows)
    code[0x100 : 0x100 + len(descriptor)] = descriptor
    distance = size - (STORE_BYTES + 0x100)
    entries = entry(TDVF_GUID, struct.pack("<I", distance)) if extra is None else extra
    entries = entry(OTHER_GUID, b"\x07" * 4) + entries
    table = entries + struct.pack("<H16s", len(entries) + 18, FOOTER_GUID.bytes_le)
    code[-32 - len(table) : -32] = table
    return store.ljust(STORE_BYTES, b"\xff") + bytes(code)


def variable(name: str, data: bytes, *, vendor: uuid.UUID = GLOBAL, state: int = 0x3F) -> bytes:
    wide = name.encode("utf-16-le") + b"\0\0"
    head = struct.pack(
        "<HBBIQ16sIII16s",
        *(0x55AA, state, 0, 7, 0, bytes(16), 0, len(wide), len(data), vendor.bytes_le),
    )
    whole = head + wide + data
    return whole + b"\xff" * (-len(whole) % 4)


def variable_store(
    variables: Mapping[tuple[uuid.UUID, str], bytes], *, body: bytes | None = None
) -> bytes:
    if body is None:
        body = b"".join(
            variable(name, data, vendor=vendor) for (vendor, name), data in variables.items()
        )
    guid = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
    volume = struct.pack(
        "<16s16sQ4sIHHHBB", bytes(16), guid, STORE_BYTES, b"_FVH", 0, 72, 0, 0, 0, 2
    )
    volume += struct.pack("<IIII", 1, STORE_BYTES, 0, 0)
    kind = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
    store = struct.pack("<16sIBBHI", kind, STORE_BYTES - 72, 0x5A, 0xFE, 0, 0)
    return (volume + store + body).ljust(STORE_BYTES, b"\xff")


def signatures(kind: str, entries: Sequence[bytes]) -> bytes:
    size = 16 + len(entries[0])
    rows = b"".join(VENDOR.bytes_le + one for one in entries)
    return struct.pack("<16sIII", uuid.UUID(kind).bytes_le, 28 + len(rows), 0, size) + rows


X509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
SHA256 = "c1c41626-504c-4092-aca9-41f936934328"


def pe(
    sections: Sequence[tuple[str, bytes]],
    *,
    signed: bytes = b"",
    plus: bool = True,
    directories: int = 16,
    tail: bytes = b"",
    memory: Mapping[str, int] | None = None,
) -> bytes:
    """A PE image; sections are 512-aligned in the file; `signed` is its certificate table."""
    fixed = 112 if plus else 96
    optional = fixed + 8 * directories
    headers = (64 + 24 + optional + 40 * len(sections) + 511) // 512 * 512
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, optional, 0x22)
    head = bytearray(fixed)
    struct.pack_into("<H", head, 0, 0x20B if plus else 0x10B)
    struct.pack_into("<I", head, 60, headers)
    struct.pack_into("<I", head, 64, 0xABCD1234)
    struct.pack_into("<I", head, fixed - 4, directories)
    at, rows, body = headers, b"", b""
    for name, data in sections:
        raw = data.ljust((len(data) + 511) // 512 * 512, b"\0")
        size = (memory or {}).get(name, len(data))
        rows += struct.pack(
            "<8sIIIIIIHHI", name.encode(), size, 0x1000, len(raw), at, 0, 0, 0, 0, 0x40
        )
        body += raw
        at += len(raw)
    table = bytearray(8 * directories)
    if signed:
        struct.pack_into("<II", table, 32, at + len(tail), len(signed))
    whole = dos + b"PE\0\0" + coff + bytes(head) + bytes(table) + rows
    return whole.ljust(headers, b"\0") + body + tail + signed


KERNEL = pe([(".text", b"kernel" * 300), (".data", b"data")])
SECTIONS = (
    (".text", b"stub code"),
    (".sbat", b"sbat,1\n"),
    (".sdmagic", b"#### LoaderInfo: systemd-stub 257.13 ####\0"),
    (".osrel", b"ID=debian\n"),
    (".cmdline", b"  root=/dev/x\tquiet \n\0"),
    (".uname", b"6.12"),
    (".initrd", b"070701 an initrd"),
    (".linux", KERNEL),
)


def uki(
    sections: Sequence[tuple[str, bytes]] = SECTIONS, memory: Mapping[str, int] | None = None
) -> bytes:
    return pe(sections, memory=memory)


def gpt(
    *,
    count: int = 128,
    size: int = 128,
    used: Sequence[int] = (0, 1, 5),
    table: int = 2,
    own: int = 1,
    signature: bytes = b"EFI PART",
    length: int = 92,
    header_crc: int | None = None,
    table_crc: int | None = None,
) -> bytes:
    entries = bytearray(min(count * size, 1 << 20))
    for index in used:
        name = f"part {index}".encode("utf-16-le").ljust(72, b"\0")
        row = VENDOR.bytes + bytes([index + 1] * 16) + struct.pack("<QQQ", 40, 50, 0) + name
        entries[index * 128 : (index + 1) * 128] = row
    crc = zlib.crc32(entries) if table_crc is None else table_crc
    head = bytearray(
        struct.pack(
            "<8sIIII4Q16sQIII",
            *(signature, 0x10000, length, 0, 0, own, 999, 34, 900, b"d" * 16),
            *(table, count, size, crc),
        )
    )
    struct.pack_into("<I", head, 16, zlib.crc32(head) if header_crc is None else header_crc)
    sector = bytes(head).ljust(512, b"\0")
    return (bytes(512) + sector).ljust(512 * table, b"\0") + bytes(entries) + bytes(4096)


def bzimage(*, protocol: int = 0x20F, flags: int = 0x2, limit: int = 0x7FFFFFFF) -> bytes:
    """A PE image with a setup header, as Linux kernels are."""
    image = bytearray(pe([(".text", b"linux" * 400)]))
    # The setup header lies where the PE headers of a real kernel leave room for it.
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<I", image, 0x22C, limit)
    struct.pack_into("<H", image, 0x236, flags)
    return bytes(image)
