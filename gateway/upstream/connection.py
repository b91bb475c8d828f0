"""One HTTP/1.1 connection to an engine, read with the same parser the edge uses.

It is stricter than HTTP allows: a response must say where it ends (one Content-Length, or
chunked), must be the answer to a request that was sent, carries no content coding, no trailers
and no interim answers.  Whatever else arrives ends the connection, so nothing that one request
left behind can be taken for the answer to the next (RFC 9112 section 11.2).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import httptools

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.head import ResponseHead, read_head

if TYPE_CHECKING:
    from gateway.upstream.limits import UpstreamLimits

_FIRST_FINAL_STATUS = 200
_COPY_BYTES = 64 * 1024
"""Up to here a copy is cheaper than a second buffer in the system call."""


class _RefusedHeadError(Exception):
    """Raised inside a parser callback to make the parser stop."""


class EngineConnection(asyncio.BufferedProtocol):
    """A connection that carries one request at a time.

    `send` starts one; `head` and `read` deliver it; `reusable` says afterwards whether another
    may follow.  `abort` may be called at any moment and wakes whoever waits.

    `room` is where the event loop puts what it reads, and bounds one read: the loop's own choice
    would be up to 256 KiB more than a slow caller is meant to make us hold.  It may be shared by
    all connections of a loop, because what was read is taken out of it before anything else is.
    """

    __slots__ = (
        "_deadline", "_fields", "_head", "_head_size", "_in_head", "_kind", "_limits", "_loop",
        "_message_done", "_parser", "_parts", "_parts_size", "_paused", "_reading", "_refusal",
        "_room", "_timer", "_timer_at", "_total_deadline", "_transport", "_waiter", "failure",
        "idle_since", "lost", "touched",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: UpstreamLimits, room: memoryview
    ) -> None:
        self._loop = loop
        self._room = room
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.lost = False
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._reading = False
        self._in_head = False
        self._message_done = False
        self._head: ResponseHead | None = None
        self._head_size = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._paused = False
        self._refusal = ""
        self._deadline = 0.0
        self._total_deadline = 0.0
        self._kind = UpstreamFailure.TIMEOUT_FIRST_BYTE
        self.failure: UpstreamError | None = None
        self.touched = False

    # -- what the client calls ------------------------------------------------------------

    def send(self, head: bytes, body: bytes, total_deadline: float) -> None:
        """Write one request.  `total_deadline` is an instant of the loop's clock."""
        self._reset()
        self._reading = True
        self._total_deadline = total_deadline
        self._set_deadline(
            UpstreamFailure.TIMEOUT_FIRST_BYTE, self._limits.first_byte_timeout, self._loop.time()
        )
        if self._transport is None or self.lost:
            self._fail(UpstreamFailure.RESET, "the connection was already closed")
            return
        if len(body) <= _COPY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    async def head(self) -> ResponseHead:
        """Wait for the head of the final response, or raise `UpstreamError`."""
        while self._head is None:
            if self.failure is not None:
                raise self.failure
            self._waiter = waiter = self._loop.create_future()
            await waiter
        return self._head

    async def read(self) -> bytes:
        """Return what has arrived of the body, waiting for the first byte; b"" at its end.

        Raises `UpstreamError` once everything that arrived before the failure was delivered.
        """
        while not self._parts:
            if self._message_done:
                return b""
            if self.failure is not None:
                raise self.failure
            self._waiter = waiter = self._loop.create_future()
            await waiter
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._parts_size = 0
        if self._paused:
            self._resume()
        return data

    @property
    def reusable(self) -> bool:
        """Whether the response ended where it said and the engine keeps the connection open."""
        return (
            self._message_done
            and not self._parts
            and not self.lost
            and self.failure is None
            and not self._reading
        )

    def abort(self, kind: UpstreamFailure, detail: str) -> None:
        """Close at once, without waiting for anything to be flushed."""
        self._fail(kind, detail)

    def rest(self) -> None:
        """Begin idling: the pool's sweep decides; a timer that still runs finds nothing to do."""
        self.idle_since = self._loop.time()

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep dead peers noticeable: a half-open connection must not look idle for ever."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Give the waiting request its reason, if the response was not complete."""
        self.lost = True
        if self._reading:
            self._fail(*self._why_cut())
        self._stop_timer()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the room is what there is
        """Say where the next read goes."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Parse and wake the reader once per read, however many chunks were in it."""
        if not self._reading:
            self._fail(UpstreamFailure.MALFORMED, "bytes arrived that no request asked for")
            return
        self.touched = True
        try:
            self._parser.feed_data(self._room[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # The parser's own words may quote the engine, so they are not passed on.
            detail = self._refusal or "the engine's answer is not HTTP/1.1"
            self._fail(UpstreamFailure.MALFORMED, detail)
            return
        if self._in_head:
            self._head_size += nbytes
            if self._head_size > self._limits.head_bytes:
                self._fail(UpstreamFailure.MALFORMED, "the engine's answer has too large a head")
                return
        if self._parts:
            self._set_deadline(
                UpstreamFailure.TIMEOUT_IDLE, self._limits.idle_timeout, self._loop.time()
            )
        if self._parts_size > self._limits.buffer_bytes and not self._paused:
            self._pause()
        self._wake()

    # -- httptools callbacks ---------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse a second message: there is never more than one request under way."""
        if self._head is not None or self._in_head:
            self._message_done_with_excess()
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

    def on_body(self, data: bytes) -> None:
        """Queue a piece of the body."""
        self._parts.append(data)
        self._parts_size += len(data)

    def on_message_complete(self) -> None:
        """The response ended where its framing said."""
        self._message_done = True
        self._reading = False
        if not self._parser.should_keep_alive():
            self._close_transport()

    # -- inside ----------------------------------------------------------------------------

    def _refuse(self, detail: str) -> None:
        self._refusal = detail
        raise _RefusedHeadError

    def _message_done_with_excess(self) -> None:
        # The message before it was complete, so its reader is not disturbed; the connection is
        # not used again.
        self._close_transport()
        raise _RefusedHeadError

    def _why_cut(self) -> tuple[UpstreamFailure, str]:
        if self._head is not None:
            return UpstreamFailure.INCOMPLETE, "the engine closed before the end of its answer"
        if self.touched:
            return UpstreamFailure.RESET, "the engine closed inside the head of its answer"
        return UpstreamFailure.RESET, "the engine closed without an answer"

    def _fail(self, kind: UpstreamFailure, detail: str) -> None:
        if self.failure is None and not self._message_done:
            self.failure = UpstreamError(kind, detail, untouched=not self.touched)
        self._reading = False
        self._stop_timer()
        if self._transport is not None and not self.lost:
            self._transport.abort()
        self.lost = True
        self._wake()

    def _close_transport(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.close()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _pause(self) -> None:
        if self._transport is not None and not self.lost:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        # The reader was slow, not the engine: its gap starts now.
        self._set_deadline(
            UpstreamFailure.TIMEOUT_IDLE, self._limits.idle_timeout, self._loop.time()
        )
        if self._transport is not None and not self.lost:
            self._transport.resume_reading()

    # -- time: one lazily moved timer, because setting one per read would cost more than a read

    def _set_deadline(self, kind: UpstreamFailure, seconds: float, now: float) -> None:
        deadline = now + seconds
        if deadline > self._total_deadline:
            deadline, kind = self._total_deadline, UpstreamFailure.TIMEOUT_TOTAL
        self._deadline = deadline
        self._kind = kind
        if self._timer is None or deadline < self._timer_at:
            self._arm(deadline)

    def _arm(self, when: float) -> None:
        self._stop_timer()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if not self._reading:
            return
        due = self._total_deadline if self._paused else self._deadline
        if self._loop.time() < due:
            self._arm(due)
            return
        kind = UpstreamFailure.TIMEOUT_TOTAL if self._paused else self._kind
        self._fail(kind, "the engine did not answer in time")
