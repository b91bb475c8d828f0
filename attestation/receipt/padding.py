"""Streams whose writes tell less: filled up to a few sizes, released on a tick.

What is written when, and how long it is, tells a listener on the wire what an answer is about,
whatever the encryption.  Filling is one comment after the frames of a write, which no reader
dispatches (WHATWG HTML section 9.2), so it stands in the delivered bytes and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attestation.receipt.delivery import RunningBody, StreamDelivery
from attestation.receipt.sse import SseFramer

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.dialect import Dialect
    from attestation.receipt.outcome import Body

PADDED: Final = "padded"
BATCHED: Final = "batched"
LARGEST_BUCKET: Final = 1 << 16
_FILLING: Final = re.compile(rb": p*\n\n")
_LEAST: Final = len(b": \n\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """How a stream's writes are shaped: filled up from `bucket` bytes on (0: not at all), and
    whether whoever sends them does it on a tick.
    """

    bucket: int = 0
    batched: bool = False


AS_IT_COMES: Final = Shaping()


def filling(length: int, bucket: int) -> bytes:
    """Return the comment that fills `length` bytes up to a size of the series.

    The series is `bucket`, its double, its fourfold and so on; beyond 64 KiB it goes on in steps
    of 64 KiB.  A write is never left without filling, so that having none says nothing either.
    """
    needed = length + _LEAST
    size = bucket
    while size < needed and size < LARGEST_BUCKET:
        size *= 2
    if size < needed:
        size = -(-needed // LARGEST_BUCKET) * LARGEST_BUCKET
    return b": " + b"p" * (size - needed) + b"\n\n"


def without_filling(body: bytes) -> bytes:
    """Return a stream without the frames that are filling and nothing else."""
    framer = SseFramer(max_frame_bytes=len(body) + 1)
    frames = framer.feed(body)
    kept = [frame for frame in frames if not _FILLING.fullmatch(frame)]
    return b"".join((*kept, framer.finish() or b""))


def delivery_of(dialect: Dialect, max_frame_bytes: int, shaping: Shaping) -> StreamDelivery:
    """Return what takes a stream to its caller, shaped if it is to be."""
    if shaping == AS_IT_COMES:
        return StreamDelivery(dialect, max_frame_bytes)
    return ShapedDelivery(dialect, max_frame_bytes, shaping)


class ShapedDelivery(StreamDelivery):
    """A stream with filling, or released on a tick, or both; either is a code among `mods`."""

    __slots__ = ("_sent", "_shaping")

    def __init__(self, dialect: Dialect, max_frame_bytes: int, shaping: Shaping) -> None:
        super().__init__(dialect, max_frame_bytes)
        self._shaping = shaping
        self._sent = RunningBody()

    def feed(self, data: bytes) -> bytes:
        """Take what the engine sent; return what may be sent on, filled up."""
        bucket = self._shaping.bucket
        if not bucket:
            return super().feed(data)
        self._sent.update(data)
        before = self.tracker.events
        released = self.tracker.feed(data)
        if released:
            released += filling(len(released), bucket)
            self._pending.append((released, self.tracker.events - before))
        return released

    def relay(self, data: bytes, send: Callable[[bytes], bool]) -> bool:
        """Hand to `send` what may be sent on, filled up; return whether it took it."""
        if not self._shaping.bucket:
            return super().relay(data, send)
        piece = self.feed(data)
        return not piece or (send(piece) and self.taken(piece))

    def owed(self, terminal: bytes) -> bytes:
        """Return what goes out before `terminal`: the last write is filled up as well."""
        if self._shaping.bucket:
            last = len(self.untaken) + len(terminal)
            self._pending.append((filling(last, self._shaping.bucket), 0))
        return self.untaken

    @property
    def engine(self) -> Body:
        """What the engine sent."""
        return self._sent.body if self._shaping.bucket else super().engine

    @property
    def mods(self) -> tuple[str, ...]:
        """What was done to the stream."""
        shaped = ((PADDED, self._shaping.bucket), (BATCHED, self._shaping.batched))
        return (*super().mods, *(code for code, applies in shaped if applies))
