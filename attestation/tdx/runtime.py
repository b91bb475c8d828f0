"""The gateway's own runtime log: what it measured before its keys, and its keys.

Everything in it extends RTMR3 by the SHA-384 of its own canonical JSON, so every digest proves
the content (docs/spec/bundle.md, event logs).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.encoding.jcs import canonicalize, parse_canonical
from attestation.encoding.members import Members
from attestation.errors import MalformedError
from attestation.tdx.events import MAX_EVENTS, Event, EventLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.encoding.strict_json import JsonValue

FORMAT = "attested-gateway"
RECEIPT_KEY = "receipt.key"
GATEWAY_EVENT_TYPE = 0
RUNTIME_REGISTER = 3

_EVENT_NAME = r"[a-z0-9][a-z0-9.-]{0,63}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEvent:
    """The event that measures a gateway's keyset into RTMR3 when its notary starts.

    `n` numbers the starts in the life of the trust domain.
    """

    bootseed: bytes
    keyset_digest: Digest
    n: int

    @property
    def name(self) -> str:
        """What the event is called in logs and policies."""
        return RECEIPT_KEY

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEvent:
    """Something that a gateway measures into RTMR3 before its keys, such as `model.lock`.

    `sha256` is of the thing itself; the name says which thing and never is `receipt.key`.
    """

    name: str
    sha256: Digest

    def __post_init__(self) -> None:
        if not re.fullmatch(_EVENT_NAME, self.name) or self.name == RECEIPT_KEY:
            raise MalformedError(
                "a measured event has an unusable name",
                code="event_log",
                expected=f"1 to 64 characters of a-z 0-9 . -, not {RECEIPT_KEY}",
            )

    def to_json(self) -> dict[str, str]:
        """Return the object whose JCS is measured."""
        return {"event": self.name, "sha256": self.sha256.hex}

    @property
    def content(self) -> bytes:
        """The bytes that are measured."""
        return canonicalize(dict(self.to_json()))

    @property
    def digest(self) -> bytes:
        """The 48 bytes by which RTMR3 is extended; a policy's `events` lists them."""
        return hashlib.sha384(self.content).digest()


def parse_gateway_events(value: JsonValue) -> EventLog:
    """Read this gateway's own runtime log, all in RTMR3, as an event log.

    The rules are those of `parse_runtime_events`.
    """
    return gateway_event_log(parse_runtime_events(value))


def gateway_event_log(events: Sequence[MeasuredEvent | KeyEvent]) -> EventLog:
    """Return the event log that these runtime events are."""
    return EventLog(
        format=FORMAT,
        events=tuple(
            Event(
                register=RUNTIME_REGISTER,
                digest=event.digest,
                type=GATEWAY_EVENT_TYPE,
                name=event.name,
                data=event.content,
                content=event.content,
            )
            for event in events
        ),
    )


def parse_runtime_events(value: JsonValue) -> tuple[MeasuredEvent | KeyEvent, ...]:
    """Read this gateway's runtime log: an array of events.

    1. measured events come first, `{"event","sha256"}`, no name twice
    2. then `receipt.key` events, which number themselves without a gap, and nothing else

    Raises `MalformedError`.
    """
    items = require_items(value, FORMAT)
    first_key = next((i for i, item in enumerate(items) if _is_key_event(item)), len(items))
    return (*parse_measured_events(items[:first_key]), *parse_key_events(items[first_key:]))


def parse_measured_events(items: Sequence[JsonValue]) -> tuple[MeasuredEvent, ...]:
    """Read what was measured before the keys, no name twice; raises `MalformedError`."""
    measured = tuple(_measured_event(item) for item in items)
    _require_distinct(event.name for event in measured)
    return measured


def parse_key_events(value: JsonValue) -> tuple[KeyEvent, ...]:
    """Read a runtime log that holds nothing but `receipt.key` events.

    Raises `MalformedError` for any other event too.
    """
    events = tuple(_key_event(item) for item in require_items(value, FORMAT))
    for before, after in itertools.pairwise(events):
        if after.n != before.n + 1:
            raise MalformedError(
                "the runtime event log leaves out a start",
                code="event_log",
                expected=f"n = {before.n + 1}",
                observed=f"n = {after.n}",
            )
    return events


def parse_runtime_content(content: bytes) -> MeasuredEvent | KeyEvent:
    """Read what was measured for one event: its canonical JSON, and nothing else.

    Raises `MalformedError`.
    """
    item = parse_canonical(content, what="a runtime event")
    return _key_event(item) if _is_key_event(item) else _measured_event(item)


def parse_measured_event(content: bytes) -> MeasuredEvent:
    """Read what was measured before the keys: its canonical JSON; raises `MalformedError`."""
    return _measured_event(parse_canonical(content, what="a runtime event"))


def require_items(value: JsonValue, what: str) -> list[JsonValue]:
    """Return `value` if it is an array of at most `MAX_EVENTS`, or raise `MalformedError`."""
    if not isinstance(value, list) or len(value) > MAX_EVENTS:
        raise MalformedError(
            f"the {what} event log is not a list of events",
            code="event_log",
            expected=f"an array of at most {MAX_EVENTS} events",
        )
    return value


def _is_key_event(item: JsonValue) -> bool:
    return isinstance(item, dict) and item.get("event") == RECEIPT_KEY


def _key_event(item: JsonValue) -> KeyEvent:
    members = Members(item, "runtime event")
    if members.raw("event") != RECEIPT_KEY:
        raise MalformedError(
            f"the runtime event log goes on with another event after {RECEIPT_KEY}",
            code="event_log",
            expected=f"only {RECEIPT_KEY} events from the first one on",
            hint="what a gateway measures comes before its keys",
        )
    event = KeyEvent(
        bootseed=members.digest_hex("bootseed").value,
        keyset_digest=members.digest_hex("keyset_digest"),
        n=members.integer("n"),
    )
    members.close()
    return event


def _measured_event(item: JsonValue) -> MeasuredEvent:
    members = Members(item, "runtime event")
    event = MeasuredEvent(name=members.text("event"), sha256=members.digest_hex("sha256"))
    members.close()
    return event


def _require_distinct(names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise MalformedError(
                "the runtime event log measures a thing twice",
                code="event_log",
                expected="each name once",
                observed=f"{name}, {count} times",
            )
