"""The HTTP/1.1 front door: uvicorn's httptools protocol with the limits it does not have.

As shipped it takes an 8 MB head, two Host fields, trailers that become headers, and waits for
ever for a head that does not end.  Here a request reaches the application only if its head

1. came within the time, size and field limits,
2. is not an upgrade, and its target is a plain path (RFC 9112 section 3.2.1, origin-form),
3. has one Host (section 3.2) and at most one way of saying where its body ends (section 6.3).

Everything else is answered once, if nothing is under way on the connection, and closed: what
follows bytes that two readers may read differently is not looked at.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.edge.errors import JSON, Refusal, error_body
from gateway.edge.limits import ConnectionLimits

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

CONNECTION_EXTENSION = "attested.connection"
_TARGET = re.compile(rb"/[!-\"$-~]*")  # visible ASCII without "#": no fragment, no spaces
_SINGLE_FIELDS = {
    b"host": re.compile(rb"[!-~]*"),
    b"content-length": re.compile(rb"[0-9]{1,18}"),
    b"transfer-encoding": re.compile(rb"chunked", re.IGNORECASE),
    b"upgrade": re.compile(rb".*", re.DOTALL),
}
_VERSION = "1.1"


class _RefusedRequestError(Exception):
    """Raised inside a parser callback to make the parser stop."""


class EdgeProtocol(HttpToolsProtocol):
    """One connection of a caller.

    `lost` turns true in the same instant in which uvicorn would begin to drop what is sent, so a
    sender that looks at it right after `send` knows whether the transport took the bytes.
    `refused` says why the running request's body cannot be read on.  Whoever sets `conversing`
    answers that itself; all other requests are answered here.
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
        self.lost = False
        self.refused: Refusal | None = None
        self.conversing = False
        self._deaf = False
        self._running: RequestResponseCycle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._rest_bytes = 0
        self._refusal = _malformed("the request is not HTTP/1.1")

    # -- connection ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request on this connection, queued ones included, that its caller is gone."""
        self.lost = True
        for timer in (self._head_timer, self._stall_timer, self._rest_timer):
            if timer is not None:
                timer.cancel()
        waiting = [cycle for cycle, _ in self.pipeline]
        for cycle in (*waiting, self._running):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        # Requests that were queued behind the running one never reach the application.
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then bound what a head that is not complete yet may still take."""
        if self.lost or self._deaf or self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_bytes:
                self._refusal = _too_large()
                self.send_400_response("")
            elif self._head_timer is None:
                self._start_head_timer()

    def pause_writing(self) -> None:
        """The caller takes nothing: it has so long to begin again."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(
                self._limits.stall_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """The caller took what waited."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    # -- parser callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        if len(self.url) + len(url) > self._limits.header_bytes:
            self._refuse(_too_large())
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; a trailer must never turn up among the headers."""
        if not self._in_head:
            self._refuse(_malformed("the body is followed by trailers; expected none"))
        if len(self.headers) >= self._limits.header_count:
            self._refuse(_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head as a whole, then hand it to the application."""
        self._in_head = False
        self._stop_head_timer()
        self._check_head()
        if self._is_busy() and len(self.pipeline) >= self._limits.pipelined:
            self._refuse(_malformed("too many requests were sent ahead on one connection"))
        self.scope["extensions"] = {CONNECTION_EXTENSION: cast("dict[object, object]", self)}
        super().on_headers_complete()
        if self.pipeline:
            # uvicorn stops reading here; then it could not notice that the caller is gone.
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, or drop a bounded rest of it if its request was answered already."""
        if self.cycle.response_complete:
            self._rest_bytes += len(body)
            if self._rest_bytes > self._limits.discard_bytes:
                self.transport.abort()
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The whole request arrived."""
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        self._rest_bytes = 0
        self.cycle.more_body = False
        super().on_message_complete()

    # -- cycles ----------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Give what is left of an answered request's body a bounded time to arrive."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(
                self._limits.discard_seconds, self.transport.abort
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not used
        """Answer a request that never became one, in OpenAI's error form, and close.

        An answer under way is cut, not followed by ours: the caller could not tell them apart.
        """
        self._in_head = False
        self._stop_head_timer()
        running = self._running if self._is_busy() else None
        # What is malformed may be the running request's own body, or a message behind it.
        if running is not None and running.more_body and not running.response_started:
            # Head and body may have come in one piece: the request's first step is still to come.
            self._deaf = True
            running.keep_alive = False
            self.loop.call_soon(self._refuse_body, running)
            return
        if running is None:
            self._write_refusal()
        self._hang_up(running)

    def _refuse_body(self, running: RequestResponseCycle) -> None:
        """Leave the answer to whoever converses; the connection is read no further."""
        if self.lost or self.transport.is_closing():
            return
        if self.conversing and not running.response_started:
            self.refused = self._refusal
            running.message_event.set()
            return
        if not running.response_started:
            self._write_refusal()
        self._hang_up(None if running.response_complete else running)

    def _write_refusal(self) -> None:
        body = error_body("", self._refusal)
        # A HEAD request's answer ends with its head, whatever its length says.
        sent = b"" if self.parser.get_method() == b"HEAD" else body
        head = f"content-type: {JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[self._refusal.status] + head.encode("ascii") + sent)

    def _hang_up(self, running: RequestResponseCycle | None) -> None:
        if running is not None:
            self.lost = True
            running.disconnected = True
            running.message_event.set()
        self.transport.close()

    # -- inside ----------------------------------------------------------------------------

    def _is_busy(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _check_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.header_bytes:
            self._refuse(_too_large())
        if self.parser.get_http_version() != _VERSION:
            self._refuse(_malformed("expected HTTP/1.1"))
        if not _TARGET.fullmatch(self.url) or self.url.startswith(b"//"):
            self._refuse(_malformed("the request target must be a plain path in visible ASCII"))
        counts = dict.fromkeys(_SINGLE_FIELDS, 0)
        for name, value in self.headers:
            if name in counts:
                counts[name] += 1
                if not _SINGLE_FIELDS[name].fullmatch(value):
                    field = name.decode("ascii")
                    self._refuse(_malformed(f"{field} has a form this gateway does not take"))
        self._check_framing(counts)

    def _check_framing(self, counts: dict[bytes, int]) -> None:
        hosts = counts[b"host"]
        if hosts != 1:
            self._refuse(_malformed(f"expected one host field, saw {hosts}"))
        if counts[b"content-length"] + counts[b"transfer-encoding"] > 1:
            self._refuse(_malformed("expected one content-length or one transfer-encoding"))
        if counts[b"upgrade"] or self.parser.should_upgrade():
            self._refuse(_malformed("upgrades and tunnels are not offered"))

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _RefusedRequestError

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
            self.transport.close()
            return
        self._refusal = Refusal(
            status=408,
            code="head_timeout",
            message="the request's head did not arrive in "
            f"{self._limits.header_seconds:g} seconds; send it in one piece",
        )
        self.send_400_response("")


def _malformed(message: str) -> Refusal:
    return Refusal(status=400, code="malformed_request", message=message)


def _too_large() -> Refusal:
    return Refusal(
        status=431,
        code="head_too_large",
        message="the request's head is larger, or has more fields, than this gateway takes",
    )
