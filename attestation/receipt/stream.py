"""Following an engine's stream: what may be released now, and what the stream turned out to be.

Only whole frames are released, never the terminal frame, nothing after it, and nothing from the
first frame on that pretends to carry a receipt.  The result does not depend on how the stream
was cut into reads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attestation.receipt.dialect import TERMINAL_HINTS, Dialect, is_terminal
from attestation.receipt.engine_json import parse_engine_object
from attestation.receipt.facts import FactSheet
from attestation.receipt.sse import SseFramer, has_data, parse_event

if TYPE_CHECKING:
    from collections.abc import Sequence

# A line that a reader of ours could take for the gateway's own block.
_FORGED: Final = re.compile(rb"(?:\A|[\r\n]): ?receipt")
_NULL: Final = b":null"
_LINE_ENDS: Final = b"\r\n"
_MESSAGE_FACTS: Final = (b'"message_start"', b'"message_delta"', b'"error"')


class StreamTracker:
    """Decides frame by frame.  `feed` and `finish` are all there is to call.

    After `finish`: `terminal` is the engine's terminal frame or None; `tail` says that more than
    line ends followed it, `trailing` that anything did; `forged` that a line started like the
    gateway's own block; `oversize` that a frame was longer than allowed; `partial` that the
    stream broke off inside a frame, which was dropped; `events` counts the released frames with
    a data line.  `halted` says that nothing will be released any more.
    """

    __slots__ = (
        "_dialect",
        "_framer",
        "_hints",
        "_withheld",
        "events",
        "facts",
        "forged",
        "halted",
        "partial",
        "tail",
        "terminal",
        "trailing",
    )

    def __init__(self, dialect: Dialect, max_frame_bytes: int) -> None:
        self._dialect = dialect
        self._hints = TERMINAL_HINTS[dialect]
        self._framer = SseFramer(max_frame_bytes)
        self.facts = FactSheet()
        self.events = 0
        self.terminal: bytes | None = None
        self._withheld = b""
        self.halted = False
        self.forged = False
        self.partial = False
        self.tail = False
        self.trailing = False

    @property
    def oversize(self) -> bool:
        """Whether a frame was longer than allowed, and no terminal frame came before it."""
        return self._framer.oversize and self.terminal is None and not self.forged

    @property
    def withheld(self) -> bytes:
        """What arrived and was not released, up to the moment of halting."""
        return self._withheld if self.halted else self._framer.finish() or b""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes that may be released now."""
        if self.halted:
            self._follow(data)
            return b""
        events = self._framer.count_events(data)
        if events and not self._is_notable(data):
            self.events += events
            return data
        frames = self._framer.feed(data)
        for position, frame in enumerate(frames):
            if self._stops_at(frame):
                self._halt(frames[position:])
                return b"".join(frames[:position])
            if has_data(frame):
                self.events += 1
                self._read_facts(frame)
        if self._framer.oversize:
            self._halt(())
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self) -> None:
        """Say that the engine's message is over; a remainder is the last frame.

        A remainder that is a terminal frame counts as one; any other is dropped, because its
        reader would drop it too.
        """
        remainder = None if self.halted else self._framer.finish()
        if remainder is not None:
            self.partial = not self._stops_at(remainder)
            self._halt(())

    def _is_notable(self, data: bytes) -> bool:
        """Whether frames may hold more than a piece of an answer: an end, facts, a forgery."""
        if b"receipt" in data or self._may_have_facts(data):
            return True
        return any(hint in data for hint in self._hints)

    def _stops_at(self, frame: bytes) -> bool:
        """Say whether the stream is not released from `frame` on, and note why."""
        if b"receipt" in frame and _FORGED.search(frame):
            self.forged = True
            return True
        for hint in self._hints:
            if hint in frame and is_terminal(self._dialect, frame):
                self.terminal = frame
                self._read_facts(frame)
                return True
        return False

    def _halt(self, frames: Sequence[bytes]) -> None:
        """Stop releasing at the first of `frames`; `withheld` is them and what is not a frame."""
        self.halted = True
        self._withheld = b"".join(frames) + (self._framer.finish() or b"")
        if self.terminal is not None:
            self._follow(self._withheld[len(self.terminal) :])

    def _follow(self, data: bytes) -> None:
        if data and self.terminal is not None:
            self.trailing = True
            self.tail = self.tail or bool(data.strip(_LINE_ENDS))

    def _read_facts(self, frame: bytes) -> None:
        if self._may_have_facts(frame):
            document = parse_engine_object(parse_event(frame).data or b"")
            if document is not None:
                self.facts.read_event(self._dialect, document)

    def _may_have_facts(self, frame: bytes) -> bool:
        """A cheap look at the bytes that spares most frames the JSON parser."""
        if self._dialect is Dialect.CHAT:
            return (
                _is_set(b'"finish_reason"', frame)
                or _is_set(b'"usage"', frame)
                or b'"error"' in frame
                or (self.facts.served is None and b'"model"' in frame)
            )
        if self._dialect is Dialect.RESPONSES:
            return b'"response"' in frame or b'"error"' in frame
        return any(mark in frame for mark in _MESSAGE_FACTS)


def _is_set(name: bytes, frame: bytes) -> bool:
    """Whether a member of this name may be anything but null; one pass over the frame."""
    at = frame.find(name)
    while at >= 0:
        at += len(name)
        if not frame.startswith(_NULL, at):
            return True
        at = frame.find(name, at)
    return False
