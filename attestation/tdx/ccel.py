"""The CC event log (CCEL) that firmware and boot loader leave in memory.

Format: TCG PC Client Platform Firmware Profile (crypto-agile log), with the
register numbering of the UEFI CC measurement protocol: 0 is MRTD, 1..4 are RTMR0..3.
"""

from __future__ import annotations

import hashlib
import struct

from attestation.errors import MalformedError
from attestation.tdx.events import REGISTERS, Event, EventLog
from attestation.tdx.tcglog import EV_NO_ACTION, MAX_LOG_BYTES, SPEC_ID, LogRecord, parse_records

__all__ = [
    "EV_NO_ACTION",
    "MAX_LOG_BYTES",
    "SPEC_ID",
    "parse_ccel",
    "parse_ccel_table",
    "type_name",
]

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
    """Parse a CC event log of at most 1 MiB, by the rules of `parse_records`.

    Records without effect (EV_NO_ACTION) and those of MRTD, which cannot be extended, are
    counted and left out.  Raises `MalformedError`.
    """
    records = parse_records(data, what="the CC event log", last_register=REGISTERS)
    events = tuple(_event(record) for record in records if record.digest and record.register)
    return EventLog(format="ccel", events=events, unmeasured=len(records) - len(events))


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


def _event(record: LogRecord) -> Event:
    digest, data = record.digest, record.data
    return Event(
        register=record.register - 1,
        digest=digest,
        type=record.type,
        name=type_name(record.type),
        data=data,
        content=data if hashlib.sha384(data).digest() == digest else None,
    )


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the CC event log does not parse", code="event_log", expected=expected, observed=observed
    )
