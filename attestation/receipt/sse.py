"""Cutting an event stream into frames (WHATWG HTML section 9.2, server-sent events).

A frame is the bytes up to and including a blank line.  Lines end in LF, CRLF or CR, and CRLF is
one line end even when a read splits it.  A leading byte order mark is a piece of its own, so
that whatever follows it starts at a frame boundary.  Frames are exact slices of the stream:
their concatenation, with the remainder, is the stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# Atomic groups: without them the two halves of one CRLF would count as two line ends.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
# A blank line is at most four bytes, so three of them may already have been searched in vain.
_OVERLAP: Final = 3
_LF: Final = 10
_CR: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class SseEvent:
    """The fields of a frame: the last event name, and the data lines joined by newlines (None
    if there is no data line, in which case readers dispatch nothing).
    """

    name: bytes | None
    data: bytes | None


def parse_event(frame: bytes) -> SseEvent:
    """Return the fields of one frame.  Every byte string is a frame; nothing is refused."""
    name: bytes | None = None
    data: list[bytes] = []
    for line in _LINE_END.split(frame):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return SseEvent(name=name, data=b"\n".join(data) if data else None)


def has_data(frame: bytes) -> bool:
    """Say whether a frame has a data line, that is, whether readers take it for an event."""
    if frame.startswith(b"data:") or b"\ndata:" in frame:
        return True
    return parse_event(frame).data is not None


class SseFramer:
    """Cuts a stream that comes in arbitrary pieces.

    The frames do not depend on where the pieces were cut.  A frame longer than
    `max_frame_bytes` sets `oversize`; from then on no frame comes out, and `remainder` holds
    everything that did not.
    """

    __slots__ = ("_buffer", "_max", "_searched", "_started", "oversize")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray()
        self._searched = 0
        self._started = False
        self.oversize = False

    @property
    def between_frames(self) -> bool:
        """Whether what comes next begins a frame, and is no byte order mark."""
        return self._started and not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames that `data` completes."""
        if self._started and not self._buffer and self._is_common(data):
            if data.find(b"\n\n") == len(data) - 2:
                return [data]
            return [frame + b"\n\n" for frame in data[:-2].split(b"\n\n")]
        self._buffer += data
        return [] if self.oversize else self._cut()

    def finish(self) -> bytes | None:
        """Return what is left after the last whole frame, None if nothing is."""
        return bytes(self._buffer) or None

    def _is_common(self, data: bytes) -> bool:
        """What an engine really sends: whole frames, LF line ends, one blank line after each."""
        return (
            data.endswith(b"\n\n")
            and len(data) <= self._max
            and b"\r" not in data
            and b"\n\n\n" not in data
            and data[0] != _LF
        )

    def _cut(self) -> list[bytes]:
        frames: list[bytes] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            if end - start > self._max:
                break
            frames.append(bytes(self._buffer[start:end]))
            start = end
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _OVERLAP)
        self.oversize = len(self._buffer) > self._max
        return frames

    def _end_of_frame(self, start: int) -> int | None:
        buffer = self._buffer
        if not self._started:
            if BOM.startswith(buffer):
                return self._start(len(BOM)) if buffer == BOM else None
            return self._start(len(BOM) if buffer.startswith(BOM) else 0) or self._next(start)
        return self._next(start)

    def _start(self, end: int) -> int:
        self._started = True
        return end

    def _next(self, start: int) -> int | None:
        buffer = self._buffer
        blank = _LINE_END.match(buffer, start) or _BLANK_LINE.search(
            buffer, max(start, self._searched)
        )
        if blank is None:
            return None
        # A CR at the very end may be half of a CRLF: the next byte decides.
        if blank.end() == len(buffer) and buffer[-1] == _CR:
            return None
        return blank.end()
