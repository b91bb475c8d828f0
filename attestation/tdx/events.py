"""Measured events, and the registers that replaying them gives.

A register only ever grows: new = SHA-384(old, digest).  So a log is complete and in order if
and only if its replay ends at the value in a quote; what the events *say* is proven only
where the digest is a hash of the content.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REGISTERS = 4
DIGEST_BYTES = 48
MAX_EVENTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One extension of RTMR `register` (0 to 3) by `digest`.

    `digest` is 48 bytes, or empty where the log keeps it to itself: then the register cannot
    be replayed.  `data` is what the log says was measured; `content` is the same if the digest
    proves it, and None if it is only a claim.
    """

    register: int
    digest: bytes
    type: int
    name: str
    data: bytes
    content: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """The events of one log in their order.

    `unmeasured` counts records that extend no RTMR.
    """

    format: str
    events: tuple[Event, ...]
    unmeasured: int = 0

    def of(self, register: int) -> tuple[Event, ...]:
        """Return the events of RTMR `register` in their order."""
        return tuple(event for event in self.events if event.register == register)


def extend(register: bytes, digest: bytes) -> bytes:
    """Return the value of a 48-byte register after one extension (TDG.MR.RTMR.EXTEND)."""
    return hashlib.sha384(register + digest).digest()


def replay(log: EventLog) -> tuple[bytes, bytes, bytes, bytes]:
    """Return RTMR0..3 as `log` leaves them, 48 bytes each, from all zero.

    A register one of whose digests the log does not state comes back empty: no register of
    any quote equals it.
    """
    registers = [bytes(DIGEST_BYTES) for _ in range(REGISTERS)]
    for event, value in zip(log.events, trace(log), strict=True):
        registers[event.register] = value
    return (registers[0], registers[1], registers[2], registers[3])


def trace(log: EventLog) -> Iterator[bytes]:
    """Yield, for each event of `log`, the value of its own register after it.

    48 bytes, or empty from the first event on whose digest the log does not state.
    """
    registers = [bytes(DIGEST_BYTES) for _ in range(REGISTERS)]
    for event in log.events:
        before = registers[event.register]
        after = extend(before, event.digest) if before and event.digest else b""
        registers[event.register] = after
        yield after
