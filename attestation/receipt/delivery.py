"""Hashing what is delivered and what the engine sent, each byte once where they are the same."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.encoding.making import maker_of
from attestation.receipt.claims import End
from attestation.receipt.dialect import error_frame
from attestation.receipt.outcome import Body
from attestation.receipt.sse import has_data
from attestation.receipt.stream import StreamTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.dialect import Dialect

_body = maker_of(Body)
_digest = maker_of(Digest)


def body_of(data: bytes) -> Body:
    """Return digest and length of a whole body."""
    return _body(_digest(hashlib.sha256(data).digest()), len(data))


class RunningBody:
    """Digest and length of a body that comes in pieces."""

    __slots__ = ("hash", "length")

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.length = 0

    def update(self, data: bytes) -> None:
        """Append `data`."""
        self.hash.update(data)
        self.length += len(data)

    def fork(self) -> RunningBody:
        """Return an independent copy."""
        copy = RunningBody()
        copy.hash = self.hash.copy()
        copy.length = self.length
        return copy

    @property
    def body(self) -> Body:
        """Digest and length so far."""
        return _body(_digest(self.hash.digest()), self.length)


@dataclass(slots=True, kw_only=True)
class Delivery:
    """What the caller gets: `status` None means that no response head left."""

    body: Body
    status: int | None = None
    content_type: str | None = None
    block_offset: int | None = None
    events: int | None = None
    mods: tuple[str, ...] = ()


class StreamDelivery:
    """An engine's stream on its way to the caller.

    While everything the engine sends is released, one running hash serves both sides; the
    engine's own begins where the two part.
    """

    __slots__ = ("_delivered", "_dialect", "_engine", "_pending", "events", "tracker")

    def __init__(self, dialect: Dialect, max_frame_bytes: int) -> None:
        self.tracker = StreamTracker(dialect, max_frame_bytes)
        self._dialect = dialect
        self.events = 0
        self._delivered = RunningBody()
        self._engine: RunningBody | None = None
        self._pending: deque[tuple[bytes, int]] = deque()

    def feed(self, data: bytes) -> bytes:
        """Take what the engine sent; return what may be sent on."""
        tracker = self.tracker
        if self._engine is not None:
            self._engine.update(data)
            return tracker.feed(data)
        before = tracker.events
        released = tracker.feed(data)
        if released:
            self._pending.append((released, tracker.events - before))
        if tracker.halted:
            self._engine = self._part()
        return released

    def relay(self, data: bytes, send: Callable[[bytes], bool]) -> bool:
        """Hand to `send` what may be sent on; return whether it took it, if there was anything."""
        events = 0 if self._pending else self.tracker.usual_events(data)
        if not events:
            piece = self.feed(data)
            return not piece or (send(piece) and self.taken(piece))
        taken = False
        try:
            taken = send(data)
        finally:
            if taken:
                delivered = self._delivered
                delivered.hash.update(data)
                delivered.length += len(data)
                self.events += events
            else:
                self._pending.append((data, events))
        return taken

    def taken(self, data: bytes) -> bool:
        """Note that the transport took the oldest released piece; False if `data` is another."""
        if not self._pending or self._pending[0][0] != data:
            return False
        self.events += self._pending.popleft()[1]
        self._delivered.update(data)
        return True

    def end_seen(self, *, clean: bool) -> End:
        """Say how the stream ended by what it showed and whether its message was whole."""
        if self.tracker.oversize:
            return End.LIMIT
        if clean and self.tracker.terminal is not None and not self.tracker.tail:
            return End.COMPLETE
        return End.UPSTREAM_ERROR

    def close(self, terminal: bytes) -> int:
        """Deliver what was released and then `terminal`; return the offset of `terminal`."""
        self._engine = self._engine or self._part()
        while self._pending:
            self._deliver(*self._pending.popleft())
        offset = self._delivered.length
        self._deliver(terminal, int(has_data(terminal)))
        return offset

    def cut(self) -> None:
        """Deliver nothing beyond what the transport took."""
        self._engine = self._engine or self._part()

    def owed(self, terminal: bytes) -> bytes:  # noqa: ARG002 - for those that shape the last write
        """Return what has to go out before `terminal`, to be called directly before `close`."""
        return self.untaken

    def own_frame(self, end: End) -> bytes:
        """Return the gateway's own terminal frame, in the form of the dialect."""
        message = f"The gateway ended this stream ({end}); its receipt says what was delivered."
        released = self.events + sum(events for _, events in self._pending)
        return error_frame(self._dialect, code=str(end), message=message, sequence=released)

    def delivery(
        self, status: int | None, content_type: str | None, block_offset: int | None
    ) -> Delivery:
        """Return what the caller got; after `close` or `cut`."""
        return Delivery(
            status=status,
            content_type=content_type,
            body=self.delivered,
            block_offset=block_offset,
            events=self.events,
            mods=self.mods,
        )

    @property
    def untaken(self) -> bytes:
        """What was released and not taken yet."""
        return b"".join(piece for piece, _ in self._pending)

    @property
    def delivered(self) -> Body:
        """What was committed for delivery."""
        return self._delivered.body

    @property
    def engine(self) -> Body:
        """What the engine sent; known after `close` or `cut`."""
        return (self._engine or self._part()).body

    @property
    def mods(self) -> tuple[str, ...]:
        """Codes of what kept the engine's bytes from being delivered as they were."""
        tracker = self.tracker
        codes = {
            "forged": tracker.forged,
            "oversize": tracker.oversize,
            "partial": tracker.partial,
            "tail": tracker.trailing,
        }
        return tuple(code for code, applies in codes.items() if applies)

    def _deliver(self, data: bytes, events: int) -> None:
        self._delivered.update(data)
        self.events += events

    def _part(self) -> RunningBody:
        engine = self._delivered.fork()
        for piece, _ in self._pending:
            engine.update(piece)
        engine.update(self.tracker.withheld)
        return engine
