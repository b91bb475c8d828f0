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
_LINE_ENDS: Final = b"\r\n"
_EVENT: Final = b"data: {"
_FRAME_END: Final = b"\n\n"
_NEXT_EVENT: Final = _FRAME_END + _EVENT
_CHAT_FACTS: Final = re.compile(rb'"(?:error"|(?:usage|finish_reason)"(?!:null))')
"""A member of a chat event that may say more than null."""
_WORDS: Final = frozenset({b"error", b"usage", b"finish_reason"})
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
        "_between_frames",
        "_dialect",
        "_framer",
        "_hints",
        "_lead",
        "_least",
        "_max",
        "_start",
        "_stop",
        "_tail",
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
        self._max = max_frame_bytes
        self._between_frames = False
        # Nothing was learned yet, and no frame is so long.
        self._least = max_frame_bytes + 1
        self._lead = self._tail = b""
        self._start = self._stop = 0
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
        released = self._feed(data)
        self._between_frames = (
            self._dialect is Dialect.CHAT
            and self.facts.served is not None
            and self._framer.between_frames
            and not self.halted
        )
        return released

    def usual_events(self, data: bytes) -> int:
        """Return how many events `data` is, if it is whole chat events that hold pieces of an
        answer and nothing else.

        Then all of it may be released, and need not be fed.  0 says nothing: feed it.  Each of its
        lines is a data line with an object and a frame, so that none is a terminal frame, and none
        starts like the gateway's own block.
        """
        if not self._between_frames or len(data) > self._max:
            return 0
        if data.startswith(self._lead) and data.endswith(self._tail) and len(data) >= self._least:
            middle = data[self._start : self._stop]
            if (
                b'"' not in middle
                and b"\n" not in middle
                and b"\r" not in middle
                and middle not in _WORDS
            ):
                return 1
        line_ends = data.count(b"\n")
        if (
            line_ends % 2 == 0
            and data.startswith(_EVENT)
            and data.endswith(_FRAME_END)
            and data.count(_NEXT_EVENT) == line_ends // 2 - 1
            and b"\r" not in data
            and _CHAT_FACTS.search(data) is None
        ):
            if line_ends == len(_FRAME_END):
                self._learn(data)
            return line_ends // 2
        return 0

    def _learn(self, usual: bytes) -> None:
        """Remember what stands around the last string of an event, mostly the piece of the answer.

        An event with the same around another string is as usual.  A member's name that was not
        in this event would have to begin with the quotation mark before the string and to end
        with the one after it: so the string would be the name, which `_WORDS` excludes.
        """
        start = usual.rfind(b':"') + 2
        end = usual.find(b'"', start)
        if start > 1 and end > 0:
            self._lead, self._tail = usual[:start], usual[end:]
            self._start, self._stop = start, end - len(usual)
            self._least = start + len(usual) - end

    def _feed(self, data: bytes) -> bytes:
        if self.halted:
            self._follow(data)
            return b""
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
            return _CHAT_FACTS.search(frame) is not None or (
                self.facts.served is None and b'"model"' in frame
            )
        if self._dialect is Dialect.RESPONSES:
            return b'"response"' in frame or b'"error"' in frame
        return any(mark in frame for mark in _MESSAGE_FACTS)
