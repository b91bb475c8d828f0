"""Reading an engine's answer with the parser that the edge uses, more strictly than HTTP asks for.

A response must say where it ends (one Content-Length, or chunked) and carries no content coding,
no trailers and no interim answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from gateway.upstream.head import ResponseHead, read_head

if TYPE_CHECKING:
    from gateway.upstream.limits import UpstreamLimits

_FIRST_FINAL_STATUS = 200


class _RefusedHeadError(Exception):
    """Raised inside a parser callback to make the parser stop."""


class ResponseReader:
    """What a connection's parser calls, and what it read so far.

    Pieces of the body are queued in `_parts`; `_refusal` is why the parser was stopped.
    """

    __slots__ = (
        "_fields", "_head", "_head_size", "_in_head", "_limits", "_message_done", "_parser",
        "_parts", "_refusal", "on_body",
    )  # fmt: skip

    def __init__(self, limits: UpstreamLimits) -> None:
        self._limits = limits
        self._parts: list[bytes] = []
        # The parser's callback for a piece of the body, without a call of Python's.
        self.on_body = self._parts.append
        self._parser = httptools.HttpResponseParser(self)

    def _expect(self) -> None:
        """Forget the answer before."""
        self._in_head = False
        self._message_done = False
        self._head: ResponseHead | None = None
        self._head_size = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts.clear()
        self._refusal = ""

    def on_message_begin(self) -> None:
        """Refuse a second message: there is never more than one request under way."""
        if self._head is not None or self._in_head:
            # The message before it was complete, so its reader is not disturbed; the connection
            # is not used again.
            self._close_transport()
            raise _RefusedHeadError
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field of the head; trailers are refused."""
        if self._head is not None:
            self._refuse("the engine's answer has trailers; none are expected")
        self._fields.append((name.lower(), value))
        if len(self._fields) > self._limits.head_fields:
            self._refuse("the head of the engine's answer has too many fields")

    def on_headers_complete(self) -> None:
        """Check the framing and keep status and content type; everything else is dropped."""
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            self._refuse("the engine sent an interim answer; a final one was expected")
        size = sum(len(name) + len(value) + 4 for name, value in self._fields)
        if size > self._limits.head_bytes:
            self._refuse("the engine's answer has too large a head")
        try:
            self._head = read_head(status, self._fields)
        except ValueError as error:
            self._refuse(str(error))
        self._in_head = False

    def on_message_complete(self) -> None:
        """The response ended where its framing said."""
        self._message_done = True
        self._end_reading()
        if not self._parser.should_keep_alive():
            self._close_transport()

    def _refuse(self, detail: str) -> None:
        self._refusal = detail
        raise _RefusedHeadError

    def _end_reading(self) -> None:
        """Note that no more is expected."""
        raise NotImplementedError

    def _close_transport(self) -> None:
        """Close the connection once what was sent has left."""
        raise NotImplementedError
