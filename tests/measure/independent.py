"""A second computation of everything that is predicted, straight from the formats.

It shares no code with the product: offsets instead of structures, whole buffers instead of streams.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import uuid


def le(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def tdvf_rows(fw: bytes) -> list[dict[str, int]]:
    """The sections, found by searching for the descriptor that the GUID's entry points at."""
    guid = bytes.fromhex("35657ae44a989847865e4685a7bf8ec2")
    at = fw.rindex(guid)
    start = len(fw) - le(fw, at - 6, 4)
    names = [("offset", 4), ("size", 4), ("base", 8), ("memory", 8), ("kind", 4), ("flags", 4)]
    rows = []
    for number in range(le(fw, start + 12, 4)):
        row, cursor = {}, start + 16 + number * 32
        for name, size in names:
            row[name] = le(fw, cursor, size)
            cursor += size
        rows.append(row)
    return rows


def mrtd(fw: bytes, two_pass: bool) -> bytes:
    """One long buffer of records, hashed at the end."""
    out = io.BytesIO()
    for row in tdvf_rows(fw):
        body = fw[row["offset"] : row["offset"] + row["size"]] + bytes(row["memory"] - row["size"])
        steps: list[tuple[int, int]] = []
        for page in range(row["memory"] >> 12):
            steps += [(0, page << 12)] + [(1, (page << 12) + 256 * i) for i in range(16)]
        if two_pass:
            steps.sort(key=lambda step: step[0])
        for kind, at in steps:
            where = (row["base"] + at).to_bytes(8, "little")
            if kind == 0 and not row["flags"] & 2:
                out.write(b"MEM.PAGE.ADD\0\0\0\0" + where + b"\0" * 104)
            if kind == 1 and row["flags"] & 1:
                out.write(b"MR.EXTEND\0\0\0\0\0\0\0" + where + b"\0" * 104 + body[at : at + 256])
    return sha384(out.getvalue())


def td_hob(fw: bytes, memory: int) -> bytes:
    """By edges: every boundary of a range, and between two of them it is accepted or not."""
    low = memory if memory < 0xB0000000 else 0x80000000
    taken = [(r["base"], r["base"] + r["memory"]) for r in tdvf_rows(fw) if r["kind"] in (2, 3)]
    edges = sorted({0, low, *(edge for pair in taken for edge in pair)})
    ranges = [
        (a, b, 0 if any(s <= a and b <= e for s, e in taken) else 7)
        for a, b in itertools.pairwise(edges)
    ]
    # Neighbours that were accepted one by one stay apart: each section is accepted by itself.
    if memory > low:
        ranges.append((1 << 32, (1 << 32) + memory - low, 7))
    home = next(row["base"] for row in tdvf_rows(fw) if row["kind"] == 2)
    out = bytearray()
    for a, b, kind in ranges:
        for value, size in ((3, 2), (48, 2), (0, 20), (kind, 4), (7, 4), (a, 8), (b - a, 8)):
            out += value.to_bytes(size, "little")
    end = home + 56 + len(out) + 8
    head = b"".join(v.to_bytes(s, "little") for v, s in ((1, 2), (56, 2), (0, 4), (9, 4), (0, 36)))
    return head + end.to_bytes(8, "little") + bytes(out)


def authenticode(image: bytes) -> bytes:
    """By exclusion: three holes are cut out of the file, and the gaps between sections.

    The format continues behind the sections at the sum of all sizes, wherever they lie: of bytes
    that a gap pushed behind that place, some are hashed twice.
    """
    pe = le(image, 0x3C, 4)
    wide = le(image, pe + 24, 2) == 0x20B
    directory = pe + 24 + (112 if wide else 96) + 32
    has = le(image, directory - 36, 4) > 4
    start, size = (le(image, directory, 4), le(image, directory + 4, 4)) if has else (0, 0)
    end = start if size else len(image)
    holes = {*range(pe + 88, pe + 92), *(range(directory, directory + 8) if has else ())}
    headers = le(image, pe + 24 + 60, 4)
    table = pe + 24 + le(image, pe + 20, 2)
    rows = [table + 40 * number for number in range(le(image, pe + 6, 2))]
    pieces = sorted((le(image, row + 20, 4), le(image, row + 16, 4)) for row in rows)
    kept = bytes(image[at] for at in range(headers) if at not in holes)
    kept += b"".join(image[at : at + length] for at, length in pieces)
    behind = headers + sum(length for _, length in pieces)
    return sha384(kept + image[behind:end])


def gpt_event(disk: bytes) -> bytes:
    table = le(disk, 512 + 72, 8) * 512
    rows = [disk[table + 128 * i : table + 128 * i + 128] for i in range(le(disk, 512 + 80, 4))]
    used = [row for row in rows if row[:16] != bytes(16)]
    return disk[512 : 512 + 92] + len(used).to_bytes(8, "little") + b"".join(used)


def variable(vendor: str, name: str, data: bytes) -> bytes:
    wide = b"".join(ord(c).to_bytes(2, "little") for c in name)
    sizes = len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    return uuid.UUID(vendor).bytes_le + sizes + wide + data


def chain(digests: list[bytes]) -> bytes:
    value = bytes(48)
    for digest in digests:
        value = sha384(value + digest)
    return value


def newc(files: list[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive as `cpio -H newc` understands it, from (name, mode, content)."""
    out = bytearray()
    for inode, (name, mode, content) in enumerate(files, 1):
        numbers = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % n for n in numbers) + name.encode() + b"\0"
        while len(out) % 4:
            out += b"\0"
        out += content
        while len(out) % 4:
            out += b"\0"
    return (
        bytes(out)
        + b"070701"
        + b"0" * 32
        + b"00000001"
        + b"0" * 48
        + b"0000000B"
        + (b"0" * 8 + b"TRAILER!!!\0\0\0\0")
    )
