"""The CC event log (CCEL) that firmware and boot loader leave in memory.

Format: TCG PC Client Platform Firmware Profile (crypto-agile log), with the
register numbering of the UEFI CC measurement protocol: 0 is MRTD, 1..4 are RTMR0..3.
"""

from __future__ import annotations

import hashlib
import struct

from attestation.errors import MalformedError
from attestation.tdx.cursor import Cursor
from attestation.tdx.events import MAX_EVENTS, REGISTERS, Event, EventLog

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

_TABLE = struct.Struct("<4sI28sBBHQQ")

_NAMES = {
    0x00000000: "EV_PREBOOT_CERT",
    0x00000001: "EV_POST_CODE",
    0x00000003: "EV_NO_ACTION",
    0x00000004: "EV_SEPARATOR",
    0x00000005: "EV_ACTION",
    0x00000006: "EV_EVENT_TAG",
    0x00000008: "EV_S_CRTM_VERSION",
    0x0000000A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0000000B: "EV_TABLE_OF_DEVICES",
    0x0000000D: "EV_IPL",
    0x0000000E: "EV_IPL_PARTITION_DATA",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}


def parse_ccel(data: bytes) -> EventLog:
    """Parse a CC event log of at most 1 MiB.

    1. the first record is the "Spec ID Event03" header, which lists the digest algorithms
    2. every record has a register, a type, listed digests and its event data, all in bounds
    3. every record with an effect has a SHA-384 digest, and none is another header
    4. the log ends at its last byte, or where a record would begin with FF FF FF FF or with
       nothing but zeroes; only padding (FF and 00) follows

    Records without effect (EV_NO_ACTION) and those of MRTD, which cannot be extended, are
    counted and left out.  Raises `MalformedError`.
    """
    if len(data) > MAX_LOG_BYTES:
        raise _malformed(f"at most {MAX_LOG_BYTES} bytes", f"{len(data)} bytes")
    reader = _cursor(data)
    sizes = _spec_id(reader)
    events: list[Event] = []
    unmeasured = 0
    while not _at_end(reader):
        event = _record(reader, sizes)
        if event is None:
            unmeasured += 1
        else:
            events.append(event)
        if len(events) + unmeasured > MAX_EVENTS:
            raise _malformed(f"at most {MAX_EVENTS} records", "more")
    return EventLog(format="ccel", events=tuple(events), unmeasured=unmeasured)


def type_name(kind: int) -> str:
    """Return what the specification calls an event type; its number if it calls it nothing."""
    return _NAMES.get(kind, f"{kind:#010x}")


def parse_ccel_table(data: bytes) -> tuple[int, int]:
    """Parse the ACPI table that says where the log lies: (length in bytes, physical address).

    Raises `MalformedError` for another signature, length or checksum (ACPI 6.5).
    """
    if len(data) != _TABLE.size or sum(data) % 256:
        raise _malformed(f"{_TABLE.size} bytes that sum to zero", f"{len(data)} bytes")
    signature, length, _, _, _, _, log_length, address = _TABLE.unpack(data)
    if signature != b"CCEL" or length != len(data):
        raise _malformed("an ACPI table with the signature CCEL", "another table")
    return log_length, address


def _spec_id(reader: Cursor) -> dict[int, int]:
    """Read the header record and return the digest size of each algorithm."""
    _, kind, _, size = reader.unpack(_FIRST)
    header = _cursor(reader.take(size))
    signature, _, _, _, _, _, count = header.unpack(_SPEC)
    if kind != EV_NO_ACTION or signature != SPEC_ID:
        raise _malformed("a Spec ID Event03 header", "another first record")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, digest_size = header.unpack(_ALGORITHM)
        sizes[algorithm] = digest_size
    if sizes.get(_SHA384) != 48:
        raise _malformed("SHA-384 with 48 bytes among the algorithms", "none")
    return sizes


def _record(reader: Cursor, sizes: dict[int, int]) -> Event | None:
    (index,) = reader.unpack(_U32)
    (kind,) = reader.unpack(_U32)
    if index > REGISTERS:
        raise _malformed(f"a register from 0 to {REGISTERS}", str(index))
    digests = _digests(reader, sizes)
    (size,) = reader.unpack(_U32)
    data = reader.take(size)
    if data.startswith(SPEC_ID):
        raise _malformed("one Spec ID Event03 header", "a second one")
    if kind == EV_NO_ACTION:
        return None
    if _SHA384 not in digests:
        raise _malformed("a SHA-384 digest in every record", "a record without one")
    if index == 0:
        return None
    digest = digests[_SHA384]
    return Event(
        register=index - 1,
        digest=digest,
        type=kind,
        name=type_name(kind),
        data=data,
        content=data if hashlib.sha384(data).digest() == digest else None,
    )


def _digests(reader: Cursor, sizes: dict[int, int]) -> dict[int, bytes]:
    (count,) = reader.unpack(_U32)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        (algorithm,) = reader.unpack(_U16)
        if algorithm not in sizes or algorithm in digests:
            raise _malformed("each listed digest algorithm once", f"{algorithm:#06x}")
        digests[algorithm] = reader.take(sizes[algorithm])
    return digests


def _at_end(reader: Cursor) -> bool:
    ends = reader.peek(len(_END)) == _END or not any(reader.peek(_SMALLEST_RECORD))
    if ends and reader.rest().translate(None, _PADDING):
        raise _malformed("only padding after the last record", "other bytes")
    return ends


def _cursor(data: bytes) -> Cursor:
    return Cursor(data, what="the CC event log", code="event_log")


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the CC event log does not parse", code="event_log", expected=expected, observed=observed
    )
