"""Event logs as people hold them: bytes of a CCEL, JSON, either of them wrapped or compressed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from attestation.encoding import base64url
from attestation.encoding.strict_json import JsonLimits, parse_json
from attestation.errors import MalformedError
from attestation.tdx.ccel import SPEC_ID, parse_ccel, parse_ccel_table
from attestation.tdx.eventlog import parse_dstack, parse_gateway_events

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.events import EventLog

MAX_FILE_BYTES = 1 << 23
FORMATS = ("attested-gateway", "ccel", "dstack")

_LIMITS = JsonLimits(max_bytes=MAX_FILE_BYTES, max_depth=16, max_members=200_000)
# Where the first bytes of a Spec ID header say so: behind register, type, SHA-1 digest and size.
_SPEC_ID_AT = 32
_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_EITHER_HEADER = 47
_MEMBERS = ("event_log", "tcb_info")


def looks_like_log(data: bytes) -> bool:
    """Say whether `data` has the outward shape of an event log, or of the table of one."""
    return data.startswith((_GZIP, *_ZLIB, b"CCEL")) or _is_json(data) or _is_ccel(data)


def parse_log_file(data: bytes) -> EventLog:
    """Return the one event log in a file of at most 8 MiB, told by its shape.

    1. gzip or zlib: the log is what it unpacks to, at most 8 MiB and nothing after it
    2. bytes with a Spec ID header: a CC event log
    3. a JSON array: dstack's events if they have `imr`, otherwise the gateway's own
    4. a JSON object: the log is its `event_log` (or that of its `tcb_info`), an array, text that
       holds one, or `{"data","format"}` as in bundles

    Raises `MalformedError`, also for the ACPI table that only says where a log lies.
    """
    if data.startswith((_GZIP, *_ZLIB)):
        data = _unpacked(data)
    if data.startswith(b"CCEL"):
        parse_ccel_table(data)
        raise MalformedError(
            "this ACPI table only says where the event log lies",
            code="event_log",
            expected="the log itself",
            hint="Linux shows it as /sys/firmware/acpi/tables/data/CCEL",
        )
    if _is_ccel(data):
        return parse_ccel(data)
    if not _is_json(data):
        raise MalformedError(
            "the file is no event log that is known",
            code="event_log",
            expected="a CC event log (CCEL) with a Spec ID Event03 header, or JSON",
            observed=f"{len(data)} other bytes",
        )
    return _from_json(parse_json(data, _LIMITS))


def parse_recorded(log_format: str, data: JsonValue) -> EventLog:
    """Return the log that a record `{"data","format"}` holds; `log_format` is one of FORMATS.

    CCEL bytes are base64url text, the other formats JSON arrays.  Raises `MalformedError`.
    """
    if log_format == "ccel":
        if not isinstance(data, str):
            raise MalformedError(
                "the CCEL event log is not text", code="event_log", expected="base64url"
            )
        return parse_ccel(base64url.decode(data, what="the CCEL event log"))
    return parse_dstack(data) if log_format == "dstack" else parse_gateway_events(data)


def _from_json(value: JsonValue) -> EventLog:
    if isinstance(value, list):
        is_dstack = any(isinstance(item, dict) and "imr" in item for item in value)
        return parse_dstack(value) if is_dstack else parse_gateway_events(value)
    if isinstance(value, dict):
        if value.keys() == {"data", "format"} and value["format"] in FORMATS:
            return parse_recorded(value["format"], value["data"])
        inner = next((value[name] for name in _MEMBERS if name in value), None)
        if isinstance(inner, str):
            inner = parse_json(inner.encode(), _LIMITS)
        return _from_json(inner)
    raise MalformedError(
        "the JSON document holds no event log",
        code="event_log",
        expected='an array of events, or an object with one as "event_log"',
    )


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(_EITHER_HEADER)
    try:
        unpacked = unpacker.decompress(data, MAX_FILE_BYTES)
    except zlib.error as error:
        raise MalformedError(
            "the compressed event log does not unpack", code="event_log", expected="gzip or zlib"
        ) from error
    if not unpacker.eof or unpacker.unused_data:
        raise MalformedError(
            "the compressed event log is cut short, too large or followed by other bytes",
            code="event_log",
            expected=f"one gzip or zlib stream of at most {MAX_FILE_BYTES} bytes",
        )
    return unpacked


def _is_ccel(data: bytes) -> bool:
    return data[_SPEC_ID_AT : _SPEC_ID_AT + len(SPEC_ID)] == SPEC_ID


def _is_json(data: bytes) -> bool:
    return data.lstrip()[:1] in (b"[", b"{")
