"""Event logs of every format: what was measured into RTMR0..3, in which order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attestation.encoding.members import Members
from attestation.tdx.ccel import parse_ccel, parse_ccel_table
from attestation.tdx.events import REGISTERS, Event, EventLog, extend, replay
from attestation.tdx.runtime import (
    RECEIPT_KEY,
    KeyEvent,
    MeasuredEvent,
    parse_gateway_events,
    parse_key_events,
    parse_runtime_events,
    require_items,
)

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

__all__ = [
    "RECEIPT_KEY",
    "Event",
    "EventLog",
    "KeyEvent",
    "MeasuredEvent",
    "dstack_digest",
    "dstack_runtime_digest",
    "extend",
    "parse_ccel",
    "parse_ccel_table",
    "parse_dstack",
    "parse_gateway_events",
    "parse_key_events",
    "parse_runtime_events",
    "replay",
]

MAX_CONTENT = 64 * 1024

# What dstack's guest agent uses for the events that applications add at run time.
DSTACK_RUNTIME_EVENT = 0x08000001

_HEX_DIGEST = r"(?:[0-9a-f]{96})?"
_HEX = r"(?:[0-9a-f]{2})*"


def parse_dstack(value: JsonValue) -> EventLog:
    """Read dstack's JSON event log: an array of imr, event_type, digest, event, event_payload.

    An empty digest is kept as such, never recomputed: what a log does not state, it does not
    claim.  Raises `MalformedError`.
    """
    return EventLog(
        format="dstack",
        events=tuple(_dstack_event(item) for item in require_items(value, "dstack")),
    )


def _dstack_event(item: JsonValue) -> Event:
    members = Members(item, "dstack event")
    register = members.integer("imr", maximum=REGISTERS - 1)
    kind = members.integer("event_type", maximum=0xFFFFFFFF)
    name = members.text("event")
    digest = bytes.fromhex(members.text("digest", pattern=_HEX_DIGEST))
    data = bytes.fromhex(members.text("event_payload", pattern=_HEX, max_chars=2 * MAX_CONTENT))
    members.close()
    return Event(
        register=register,
        digest=digest,
        type=kind,
        name=name,
        data=data,
        content=data if dstack_digest(kind, name, data) == digest else None,
    )


def dstack_digest(kind: int, name: str, data: bytes) -> bytes | None:
    """Return the digest that proves a dstack event's content; None if none can.

    A run-time event is hashed with type and name: SHA-384(type ":" name ":" data), the type in
    4 little-endian bytes.  A colon in a name could be that separator as well, so such a name
    proves nothing.  Every other event is hashed as it is.
    """
    if kind != DSTACK_RUNTIME_EVENT:
        return hashlib.sha384(data).digest()
    return None if ":" in name else dstack_runtime_digest(name, data)


def dstack_runtime_digest(name: str, data: bytes) -> bytes:
    """Return the 48 bytes by which dstack extends RTMR3 for a run-time event, whatever its name."""
    # The escape keeps a lone surrogate, which has no UTF-8 form, from escaping as an error.
    text = name.encode("utf-8", "backslashreplace")
    kind = DSTACK_RUNTIME_EVENT.to_bytes(4, "little")
    return hashlib.sha384(b":".join((kind, text, data))).digest()
