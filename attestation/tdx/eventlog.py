"""Event logs of every format: what was measured into RTMR0..3, in which order."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.encoding.jcs import canonicalize
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.tdx.ccel import parse_ccel, parse_ccel_table
from attestation.tdx.events import MAX_EVENTS, REGISTERS, Event, EventLog, extend, replay

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue

__all__ = [
    "Event",
    "EventLog",
    "KeyEvent",
    "extend",
    "parse_ccel",
    "parse_ccel_table",
    "parse_dstack",
    "parse_gateway_events",
    "parse_key_events",
    "replay",
]

MAX_CONTENT = 64 * 1024

RECEIPT_KEY = "receipt.key"
GATEWAY_EVENT_TYPE = 0
# What dstack's guest agent uses for the events that applications add at run time.
DSTACK_RUNTIME_EVENT = 0x08000001

_KEY_EVENT_REGISTER = 3
_HEX_DIGEST = r"(?:[0-9a-f]{96})?"
_HEX = r"(?:[0-9a-f]{2})*"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """The event that measures a gateway's keyset into RTMR3 when its notary starts.

    `n` numbers the starts in the life of the trust domain.
    """

    bootseed: bytes
    keyset_digest: Digest
    n: int

    def to_json(self) -> dict[str, str | int]:
        """Return the object whose JCS is measured."""
        return {
            "bootseed": self.bootseed.hex(),
            "event": RECEIPT_KEY,
            "keyset_digest": self.keyset_digest.hex,
            "n": self.n,
        }

    @property
    def content(self) -> bytes:
        """The bytes that are measured."""
        return canonicalize(dict(self.to_json()))

    @property
    def digest(self) -> bytes:
        """The 48 bytes by which RTMR3 is extended."""
        return hashlib.sha384(self.content).digest()


def parse_dstack(value: JsonValue) -> EventLog:
    """Read dstack's JSON event log: an array of imr, event_type, digest, event, event_payload.

    An empty digest is kept as such, never recomputed: what a log does not state, it does not
    claim.  Raises `MalformedError`.
    """
    return EventLog(
        format="dstack", events=tuple(_dstack_event(item) for item in _items(value, "dstack"))
    )


def parse_gateway_events(value: JsonValue) -> EventLog:
    """Read this gateway's own runtime log: an array of `receipt.key` objects, all in RTMR3.

    The events number themselves without a gap.  Raises `MalformedError`.
    """
    events = parse_key_events(value)
    return EventLog(
        format="attested-gateway",
        events=tuple(
            Event(
                register=_KEY_EVENT_REGISTER,
                digest=event.digest,
                type=GATEWAY_EVENT_TYPE,
                name=RECEIPT_KEY,
                data=event.content,
                content=event.content,
            )
            for event in events
        ),
    )


def parse_key_events(value: JsonValue) -> tuple[KeyEvent, ...]:
    """Like `parse_gateway_events`, as the events themselves."""
    events = tuple(_key_event(item) for item in _items(value, "attested-gateway"))
    for before, after in itertools.pairwise(events):
        if after.n != before.n + 1:
            raise MalformedError(
                "the runtime event log leaves out a start",
                code="event_log",
                expected=f"n = {before.n + 1}",
                observed=f"n = {after.n}",
            )
    return events


def _key_event(item: JsonValue) -> KeyEvent:
    members = Members(item, "runtime event")
    members.text("event", choices=(RECEIPT_KEY,))
    event = KeyEvent(
        bootseed=members.digest_hex("bootseed").value,
        keyset_digest=members.digest_hex("keyset_digest"),
        n=members.integer("n"),
    )
    members.close()
    return event


def _dstack_event(item: JsonValue) -> Event:
    members = Members(item, "dstack event")
    register = members.integer("imr", maximum=REGISTERS - 1)
    kind = members.integer("event_type", maximum=0xFFFFFFFF)
    name = members.text("event")
    digest = bytes.fromhex(members.text("digest", pattern=_HEX_DIGEST))
    data = bytes.fromhex(members.text("event_payload", pattern=_HEX, max_chars=2 * MAX_CONTENT))
    members.close()
    measured = data
    if kind == DSTACK_RUNTIME_EVENT:
        # The rule of dstack's runtime events; the escape keeps a surrogate from escaping us.
        text = name.encode("utf-8", "backslashreplace")
        measured = kind.to_bytes(4, "little") + b":" + text + b":" + data
    proven = hashlib.sha384(measured).digest() == digest
    return Event(
        register=register,
        digest=digest,
        type=kind,
        name=name,
        data=data,
        content=data if proven else None,
    )


def _items(value: JsonValue, what: str) -> list[JsonValue]:
    if not isinstance(value, list) or len(value) > MAX_EVENTS:
        raise MalformedError(
            f"the {what} event log is not a list of events",
            code="event_log",
            expected=f"an array of at most {MAX_EVENTS} events",
        )
    return value
