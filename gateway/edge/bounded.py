"""A caller's connection: how long it may wait, take and be silent, and how it is refused.

What is wrong is answered once, after what was asked before it, and closed: what follows bytes
that two readers may read differently is not looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.edge import failures
from gateway.edge.caller import Caller
from gateway.edge.crowd import TOO_MANY, Crowd
from gateway.edge.errors import JSON, Refusal, error_body
from gateway.edge.framing import malformed, too_late
from gateway.edge.limits import ConnectionLimits
from gateway.edge.stall import StallWatch, bytes_waiting

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from gateway.telemetry.edge import EdgeMetrics

_REASONS = {
    "malformed_request": "malformed",
    "head_too_large": "header_size",
    "head_timeout": "header_time",
}


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection with the bounds it does not have; what is read is its subclass's.

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
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        # Nothing more is read; and what is wrong is answered once the requests before it are.
        self._deaf = False
        self._last_word = False
        self._running: RequestResponseCycle | None = None
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._stall = StallWatch(
            self.loop, self._limits.stall_seconds, self._bytes_waiting, self._give_up
        )
        self._refusal = malformed("the request is not HTTP/1.1")

    # -- from its beginning to its end -----------------------------------------------------

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

    # -- refusals --------------------------------------------------------------------------

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

    # -- clocks ----------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

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
