"""The event by which firmware measures the partition table of the disk it boots from.

Formats: UEFI 2.10 section 5.3 (GPT); TCG PC Client Platform Firmware Profile, UEFI_GPT_DATA.
"""

from __future__ import annotations

import struct
import zlib

from attestation.measure.window import Window

SECTOR_BYTES = 512
# The protective MBR, the header, and the table of at most MAX_ENTRIES entries behind it.
HEAD_BYTES = 1 << 20
MAX_ENTRIES = 1024

_HEADER = struct.Struct("<8sIIII4Q16sQIII")
_SIGNATURE = b"EFI PART"
_COUNT = struct.Struct("<Q")
_GUID_BYTES = 16


def gpt_event(head: bytes) -> bytes:
    """Return the content of the GPT event for a disk that begins with `head`.

    The header, the number of entries in use, and those entries.

    1. sector 1 holds a GPT header of 92 bytes whose CRC-32 holds and which names itself
    2. its table has 1 to `MAX_ENTRIES` entries of 128 bytes, in `head`, whose CRC-32 holds

    Raises `MalformedError`, also for sectors of another size than 512 bytes.
    """
    window = Window(head, what="the disk's partition table", code="gpt")
    raw = window.take(SECTOR_BYTES, _HEADER.size)
    signature, _, size, checksum, _, own, _, _, _, _, table, count, entry, crc = _HEADER.unpack(raw)
    if signature != _SIGNATURE or size != _HEADER.size or own != 1:
        raise window.refusal(
            f"a GPT header of {_HEADER.size} bytes in sector 1 of {SECTOR_BYTES} bytes",
            "another header",
            "give the raw disk image, not a compressed or converted one",
        )
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:]) != checksum:
        raise window.refusal("a GPT header whose checksum holds", "another checksum")
    if entry != 128 or not 1 <= count <= MAX_ENTRIES:
        raise window.refusal(
            f"1 to {MAX_ENTRIES} entries of 128 bytes", f"{count} of {entry} bytes"
        )
    entries = window.take(table * SECTOR_BYTES, count * entry)
    if zlib.crc32(entries) != crc:
        raise window.refusal("a partition table whose checksum holds", "another checksum")
    each = (entries[at : at + entry] for at in range(0, len(entries), entry))
    used = [one for one in each if any(one[:_GUID_BYTES])]
    return raw + _COUNT.pack(len(used)) + b"".join(used)
