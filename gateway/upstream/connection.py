"""One HTTP/1.1 connection to an engine, read with the same parser the edge uses.

What is no answer to a request that was sent ends the connection, so nothing that one request left
behind can be taken for the answer to the next (RFC 9112 section 11.2).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import httptools

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.response import ResponseReader
from gateway.upstream.silence import Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.upstream.head import ResponseHead
    from gateway.upstream.limits import UpstreamLimits

    Sink = Callable[[bytes], bool]

_COPY_BYTES = 64 * 1024
"""Up to here a copy is cheaper than a second buffer in the system call."""


class EngineConnection(ResponseReader, asyncio.BufferedProtocol):
    """A connection that carries one request at a time.

    `send` starts one; `head` and `read` deliver it; `reusable` says afterwards whether another
    may follow.  `abort` may be called at any moment and wakes whoever waits.

    `room` is where the event loop puts what it reads, and bounds one read: the loop's own choice
    would be up to 256 KiB more than a slow caller is meant to make us hold.  It may be shared by
    all connections of a loop, because what was read is taken out of it before anything else is.
    """

    __slots__ = (
        "_enough", "_flowing", "_loop", "_parts_size", "_paused", "_reading", "_room", "_silence",
        "_sink", "_sink_error", "_transport", "_waiter", "failure", "idle_since", "lost",
        "touched",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: UpstreamLimits, room: memoryview
    ) -> None:
        super().__init__(limits)
        self._loop = loop
        self._room = room
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._silence = Silence(loop, self._fell_silent)
        self.lost = False
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._expect()
        self._reading = False
        self._parts_size = 0
        self._paused = False
        self._flowing = False
        self._sink: Sink | None = None
        self._sink_error: Exception | None = None
        self._enough = False
        self.failure: UpstreamError | None = None
        self.touched = False

    # -- what the client calls ------------------------------------------------------------

    def send(self, head: bytes, body: bytes, total_deadline: float) -> None:
        """Write one request.  `total_deadline` is an instant of the loop's clock."""
        self._reset()
        self._reading = True
        first = self._limits.first_byte_timeout
        self._silence.begin(UpstreamFailure.TIMEOUT_FIRST_BYTE, first, total_deadline)
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
            if self._paused:
                # A sink took what was waiting, and had enough.
                self._resume()
            if self._message_done:
                return b""
            if self.failure is not None:
                raise self.failure
            self._waiter = waiter = self._loop.create_future()
            await waiter
        data = self._take_parts()
        if self._paused:
            self._resume()
        return data

    async def pour(self, sink: Sink) -> bool:
        """Hand what arrives of the body to `sink`, in the callback that reads it.

        Returns true at the end of the body, and false when `sink` returned false: then what
        arrives is kept, as before.  Raises what `sink` raises, and `UpstreamError` once everything
        that arrived before the failure was handed over.
        """
        while True:
            if self._parts and not sink(self._take_parts()):
                return False
            # Also after the last piece: the connection may carry another request.
            if self._paused:
                self._resume()
            if self._message_done:
                return True
            if self.failure is not None:
                raise self.failure
            if await self._poured(sink):
                return False

    async def _poured(self, sink: Sink) -> bool:
        """Push to `sink` until something else happens; return whether it has enough."""
        self._sink, self._enough = sink, False
        self._waiter = waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._sink = None
        if self._sink_error is not None:
            raise self._sink_error
        return self._enough

    @property
    def reusable(self) -> bool:
        """Whether the response ended where it said and the engine keeps the connection open."""
        return (
            self._message_done
            and not self._parts
            and not self._paused
            and not self.lost
            and self.failure is None
            and not self._reading
        )

    def abort(self, kind: UpstreamFailure, detail: str) -> None:
        """Close at once, without waiting for anything to be flushed."""
        self._fail(kind, detail)

    def rest(self) -> None:
        """Begin idling: the pool's sweep decides."""
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
        self._silence.stop()

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
            if self._flowing:
                self._silence.heard_at = self._loop.time()
            else:
                self._flow()
            sink = self._sink
            if sink is not None:
                parts = self._parts
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                parts.clear()
                try:
                    more = sink(data)
                except Exception as error:  # noqa: BLE001 - it is raised where the sink came from
                    self._sink_error = error
                    more = False
                if not more:
                    self._sink, self._enough = None, True
                if self._enough or self._message_done:
                    self._wake()
                return
            self._parts_size += nbytes
            if self._parts_size > self._limits.buffer_bytes and not self._paused:
                self._pause()
        self._wake()

    # -- inside ----------------------------------------------------------------------------

    def _take_parts(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._parts_size = 0
        return data

    def _end_reading(self) -> None:
        """Note that no more is expected: a timer that still runs finds nothing to do."""
        self._reading = False
        self._silence.watching = False

    def _flow(self) -> None:
        """From here on the engine may not fall silent for longer than between two pieces."""
        self._flowing = True
        self._silence.allow(UpstreamFailure.TIMEOUT_IDLE, self._limits.idle_timeout)

    def _fell_silent(self, kind: UpstreamFailure) -> None:
        self._fail(kind, "the engine did not answer in time")

    def _why_cut(self) -> tuple[UpstreamFailure, str]:
        if self._head is not None:
            return UpstreamFailure.INCOMPLETE, "the engine closed before the end of its answer"
        if self.touched:
            return UpstreamFailure.RESET, "the engine closed inside the head of its answer"
        return UpstreamFailure.RESET, "the engine closed without an answer"

    def _fail(self, kind: UpstreamFailure, detail: str) -> None:
        if self.failure is None and not self._message_done:
            self.failure = UpstreamError(kind, detail, untouched=not self.touched)
        self._end_reading()
        self._silence.stop()
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
            self._paused = self._silence.suspended = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = self._silence.suspended = False
        if self._transport is not None and not self.lost:
            # The reader was slow, not the engine: its gap starts now.
            self._flow()
            self._transport.resume_reading()
