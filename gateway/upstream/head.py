"""The head of an engine's response: how it must be framed, and the little that is taken of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CONTENT_TYPE = re.compile(rb"[!-~][ -~]{0,127}")
_IDENTITY = (b"", b"identity")
BODILESS = (204, 304)
_EVENT_STREAM = "text/event-stream"
_LAST_STATUS = 599


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """All that is taken from the head of an engine's response."""

    status: int
    content_type: str | None

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream of events (text/event-stream)."""
        if self.status in BODILESS:
            return False
        kind = (self.content_type or "").partition(";")[0]
        return kind.strip().lower() == _EVENT_STREAM


def read_head(status: int, fields: Iterable[tuple[bytes, bytes]]) -> ResponseHead:
    """Return status and content type; names are lower-case.

    Raises `ValueError`, in our own words, unless the status is at most 599 (RFC 9110 section 15)
    and the response says exactly once where it ends (RFC 9112 section 6.3), in an unencoded body
    of one usable type.
    """
    if status > _LAST_STATUS:
        raise ValueError("the engine's answer has a status that HTTP does not know")
    lengths = codings = 0
    content_type: bytes | None = None
    for name, value in fields:
        if name == b"content-length":
            lengths += 1
        elif name == b"transfer-encoding":
            codings += 1
            if value.lower() != b"chunked":
                raise ValueError("the engine's answer has a transfer coding other than chunked")
        elif name == b"content-encoding" and value.strip().lower() not in _IDENTITY:
            raise ValueError("the engine's answer is compressed; identity was expected")
        elif name == b"content-type":
            if content_type is not None or not _CONTENT_TYPE.fullmatch(value):
                raise ValueError("the engine's answer has an unusable content type")
            content_type = value
    if lengths + codings != 1 and status not in BODILESS:
        raise ValueError("the engine's answer must have one Content-Length or be chunked")
    kind = None if content_type is None else content_type.decode("ascii")
    return ResponseHead(status=status, content_type=kind)
