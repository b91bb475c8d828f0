"""The HTTP/1.1 front door: uvicorn's httptools protocol with the limits it does not have.

As shipped it takes an 8 MB head, two Host fields, trailers that become headers, and waits for
ever for a head that does not end.  Here a request reaches the application only if its head

1. came within the time, size and field limits,
2. is not an upgrade, and its target is a plain path (RFC 9112 section 3.2.1, origin-form),
3. has one Host (section 3.2) and at most one way of saying where its body ends (section 6.3).

Requests to the inference routes are handed straight to an application that has a method
`converse` (`gateway.edge.caller`); all others go the way of ASGI.

Everything else is answered once, after what was asked before it, and closed: what follows bytes
that two readers may read differently is not looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.edge import failures
from gateway.edge.caller import Caller
from gateway.edge.crowd import TOO_MANY, Crowd
from gateway.edge.errors import JSON, Refusal, error_body
from gateway.edge.framing import (
    RefusedRequestError,
    check_head,
    malformed,
    too_large,
    too_late,
)
from gateway.edge.limits import ConnectionLimits
from gateway.edge.routes import inference_target
from gateway.edge.stall import StallWatch, bytes_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from gateway.telemetry.edge import EdgeMetrics

    Converse = Callable[[Caller], Coroutine[Any, Any, None]]

_REASONS = {
    "malformed_request": "malformed",
    "head_too_large": "header_size",
    "head_timeout": "header_time",
}
_METHOD = b"POST"


class EdgeProtocol(HttpToolsProtocol):
    """One connection of a caller.

    `lost` says that nothing that is sent leaves any more.  A conversing caller is told of a body
    that cannot be read on and answers that itself; all other requests are answered here.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        limits = getattr(config, "connection_limits", None)
        self._limits = limits if isinstance(limits, ConnectionLimits) else ConnectionLimits()
        self._crowd: Crowd | None = getattr(config, "crowd", None)
        self._metrics: EdgeMetrics | None = getattr(config, "edge_metrics", None)
        self.peer: str | None = None
        self.lost = False
        self.stalled = False
        self._converse: Converse | None = getattr(self.app, "converse", None)
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        # Nothing more is read; and what is wrong is answered once the requests before it are.
        self._deaf = False
        self._last_word = False
        self._running: RequestResponseCycle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall = StallWatch(
            self.loop, self._limits.stall_seconds, self._bytes_waiting, self._give_up
        )
        # Which chunked body is being received, counted from 1; 0: none.
        self._chunked = 0
        self._chunked_seen = 0
        self._framing_bytes = 0
        self._ahead_bytes = 0
        self._rest_timer: asyncio.TimerHandle | None = None
        self._rest_bytes = 0
        self._refusal = malformed("the request is not HTTP/1.1")

    # -- connection ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head, if there is room for one more connection."""
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else None
        crowded = self._crowd.enter(self) if self._crowd is not None else None
        if self._metrics is not None:
            self._metrics.connection(1)
        if crowded is not None:
            self._deaf = True
            self._reject(failures.TOO_MANY_CONNECTIONS, crowded)
            return
        self._start_head_timer()

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way, so that the connection may be closed for another."""
        return not self._is_busy()

    def give_way(self) -> None:
        """End a connection that waits, for one that may have something to say."""
        self._count_refused(TOO_MANY)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request on this connection, queued ones included, that its caller is gone."""
        self.lost = True
        self._stall.stop()
        for timer in (self._head_timer, self._rest_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        if self._crowd is not None:
            self._crowd.leave(self)
        if self._metrics is not None:
            self._metrics.connection(-1)
        waiting = [cycle for cycle, _ in self.pipeline]
        for cycle in (*waiting, self._running):
            if cycle is not None:
                _leave(cycle)
        # Requests that were queued behind the running one never reach the application.
        self.pipeline.clear()
        # They know by now; uvicorn would tell its own kind only.
        self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then bound what a head that is not complete yet may still take."""
        if self.lost or self._deaf or self.transport.is_closing():
            return
        chunked = self._chunked
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send_400_response("")
            return
        if chunked and chunked == self._chunked:
            self._bound_framing(len(data))
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_bytes:
                self._refusal = too_large()
                self.send_400_response("")
            elif self._head_timer is None:
                self._start_head_timer()

    def _bound_framing(self, received: int) -> None:
        # `on_body` takes off twice what is body: what is left over is sizes and extensions.
        self._framing_bytes += received
        if self._framing_bytes > self._limits.framing_bytes and not self.transport.is_closing():
            self._refusal = malformed(
                "the body's chunks are too small, or their extensions too large; send larger chunks"
            )
            self.send_400_response("")

    def eof_received(self) -> None:
        """Take a caller that will send nothing more for one that is gone (docs/spec/http.md).

        What of an answer is complete is still delivered; an unfinished one has no reader that
        could be told from none, and the transport would wait for it to be read.
        """
        if self._is_busy():
            self.transport.abort()

    def pause_writing(self) -> None:
        """The caller takes nothing: it has so long to go on."""
        super().pause_writing()
        self._stall.start()

    def resume_writing(self) -> None:
        """The caller took what waited, or most of it."""
        if not self.transport.is_closing():
            self._stall.stop()
        super().resume_writing()

    def end(self) -> None:
        """Close, but do not wait for ever for a caller to take what it is still owed."""
        self.transport.close()
        self._stall.start()

    def _bytes_waiting(self) -> int:
        return bytes_waiting(self.transport)

    def _give_up(self) -> None:
        self.stalled = True
        if self._metrics is not None:
            self._metrics.slow_client()
        self.transport.abort()

    # -- parser callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        if len(self.url) + len(url) > self._limits.header_bytes:
            self._refuse(too_large())
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; a trailer must never turn up among the headers."""
        if not self._in_head:
            self._refuse(malformed("the body is followed by trailers; expected none"))
        if len(self.headers) >= self._limits.header_count:
            self._refuse(too_large())
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head as a whole, then hand it to the application."""
        self._in_head = False
        self._stop_head_timer()
        self._check_head()
        self._ahead_bytes = 0
        if self._is_busy() and len(self.pipeline) >= self._limits.pipelined:
            self._refuse(malformed("too many requests were sent ahead on one connection"))
        target = inference_target(self.url) if self._converse is not None else None
        if target is not None and self.parser.get_method() == _METHOD:
            self._hand_over(*target)
        else:
            self._hand_over_as_asgi()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, or drop a bounded rest of it if its request was answered already."""
        if self._chunked:
            self._framing_bytes -= 2 * len(body)
        if self.cycle.response_complete:
            self._rest_bytes += len(body)
            if self._rest_bytes > self._limits.discard_bytes:
                self.transport.abort()
            return
        if self.cycle is not self._running:
            # What is sent ahead must never stop the reading: a caller that leaves would be missed.
            self._ahead_bytes += len(body)
            if self._ahead_bytes > self._limits.pipelined_bytes:
                self._refuse(malformed("too large a body was sent ahead on one connection"))
        if isinstance(self.cycle, Caller):
            self.cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request arrived."""
        self._chunked = 0
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        self._rest_bytes = 0
        if isinstance(self.cycle, Caller):
            self.cycle.end_body()
        else:
            self.cycle.more_body = False
            super().on_message_complete()

    # -- requests --------------------------------------------------------------------------

    def _hand_over(self, path: str, query: bytes) -> None:
        running: RequestResponseCycle | None = self.cycle
        self.cycle = Caller(
            self,
            path=path,
            query=query,
            headers=self.headers,
            keep_alive=self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        if running is None or running.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.pipeline.appendleft((self.cycle, self.app))

    def _hand_over_as_asgi(self) -> None:
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.scope["headers"] = url, headers, headers
        self.expect_100_continue = expected
        super().on_headers_complete()
        if self.pipeline:
            # uvicorn stops reading here; then it could not notice that the caller is gone.
            self.flow.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401
        self._running = cycle
        if self._converse is None or not isinstance(cycle, Caller):
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(self._converse(cycle))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """Go on to the next request, or begin to wait for one.

        What is left of an answered request's body has a bounded time to arrive.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            # uvicorn's own cycle closes without looking at what is still to be taken.
            self._stall.start()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_word:
            self._write_refusal()
            self._hang_up(None)
            return
        else:
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._start_idle_timer(self.timeout_keep_alive)
        if self.cycle.response_complete and self.cycle.more_body and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(
                self._limits.discard_seconds, self.transport.abort
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not used
        """Answer a request that never became one, in OpenAI's error form, and close.

        Requests before it are answered first.  One whose own body is malformed while its answer
        is under way is cut: the caller could not tell our answer from the rest of its own.
        """
        self._in_head = False
        self._stop_head_timer()
        self._count_refused(_REASONS[self._refusal.code])
        running = self._running if self._is_busy() else None
        # What is malformed may be the running request's own body, or a message behind it.
        if running is not None and running.more_body and not running.response_started:
            # Head and body may have come in one piece: the request's first step is still to come.
            self._deaf = True
            running.keep_alive = False
            self.loop.call_soon(self._refuse_body, running)
            return
        if running is not None and not running.more_body:
            self._deaf = self._last_word = True
            if self.pipeline and self.pipeline[0][0].more_body:
                # Its body is what is malformed.
                self.pipeline.popleft()
            return
        if running is None:
            self._write_refusal()
        self._hang_up(running)

    def _refuse_body(self, running: RequestResponseCycle) -> None:
        """Leave the answer to whoever converses; the connection is read no further."""
        if self.lost or self.transport.is_closing():
            return
        if isinstance(running, Caller) and running.conversing and not running.response_started:
            running.refuse(self._refusal)
            return
        if not running.response_started:
            self._write_refusal()
        self._hang_up(None if running.response_complete else running)

    def _reject(self, refusal: Refusal, reason: str) -> None:
        """Answer what was not asked yet, and close."""
        self._refusal = refusal
        self._count_refused(reason)
        self._write_refusal()
        self._hang_up(None)

    def _count_refused(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.connection_refused(reason)

    def _write_refusal(self) -> None:
        body = error_body("", self._refusal)
        # A HEAD request's answer ends with its head, whatever its length says.
        sent = b"" if self.parser.get_method() == b"HEAD" else body
        head = f"content-type: {JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        lines = [STATUS_LINE[self._refusal.status], head.encode("ascii")]
        lines += (b"%b: %b\r\n" % field for field in self._refusal.headers)
        self.transport.write(b"".join((*lines, b"\r\n", sent)))

    def _hang_up(self, running: RequestResponseCycle | None) -> None:
        if running is not None:
            self.lost = True
            _leave(running)
        self.end()

    # -- inside ----------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _check_head(self) -> None:
        parser = self.parser
        try:
            chunked, self.expect_100_continue = check_head(
                self.url,
                self.headers,
                parser.get_http_version(),
                self._limits,
                upgrades=parser.should_upgrade(),
            )
        except RefusedRequestError as error:
            self._refusal = error.refusal
            raise
        if chunked:
            self._chunked_seen += 1
            self._chunked, self._framing_bytes = self._chunked_seen, 0

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise RefusedRequestError(refusal)

    def _start_idle_timer(self, seconds: float) -> None:
        self._idle_timer = self.loop.call_later(seconds, self._on_idle_timer)

    def _on_idle_timer(self) -> None:
        # Setting a timer for every answer would cost more than looking now and then.
        self._idle_timer = None
        if self._in_head or self._is_busy() or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._start_idle_timer(left)
        else:
            self.end()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.header_seconds, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.lost or self.transport.is_closing():
            return
        if not self._in_head:
            # Nothing was asked, so there is nothing to answer.
            self.end()
            return
        self._refusal = too_late(self._limits)
        self.send_400_response("")


def _leave(cycle: RequestResponseCycle) -> None:
    if isinstance(cycle, Caller):
        cycle.leave()
    elif not cycle.response_complete:
        cycle.disconnected = True
        cycle.message_event.set()
