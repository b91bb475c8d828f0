"""Which bytes of an event stream the application may see before the receipt was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.receipt.block import find_block
from attestation.receipt.commitments import parse_openings_header
from attestation.receipt.dialect import TERMINAL_HINTS, Dialect, is_terminal
from attestation.receipt.sse import SseFramer

if TYPE_CHECKING:
    from attestation.receipt.commitments import Openings

MAX_FRAME_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The receipt found inside a stream, and its openings."""

    token: str
    openings: Openings


class StreamHold:
    """Lets frames through until one that may be the receipt or the end; holds all that follows."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._framer = SseFramer(max_frame_bytes=MAX_FRAME_BYTES)
        self._body = bytearray()
        self._released = 0
        self._holding = False

    def feed(self, data: bytes) -> bytes:
        """The bytes that may be passed on now."""
        self._body += data
        if self._holding:
            return b""
        passed = 0
        for frame in self._framer.feed(data):
            if self._may_be_last(frame):
                self._holding = True
                break
            passed += len(frame)
        start = self._released
        self._released += passed
        return bytes(self._body[start : self._released])

    def block(self) -> Block | None:
        """The receipt directly before the last frame, None if there is none.

        To be called at the end of the stream.  `MalformedError` for openings that are none.
        """
        found = find_block(bytes(self._body))
        if found is None:
            return None
        return Block(token=found.token, openings=parse_openings_header(found.openings))

    def rest(self) -> bytes:
        """What was held back."""
        return bytes(self._body[self._released :])

    def _may_be_last(self, frame: bytes) -> bool:
        if frame.startswith(b": receipt "):
            return True
        hinted = any(hint in frame for hint in TERMINAL_HINTS[self._dialect])
        return hinted and is_terminal(self._dialect, frame)
