"""The HTTP/1.1 front door: uvicorn's httptools protocol with the limits it does not have.

As shipped it takes an 8 MB head, two Host fields, trailers that become headers, and waits for
ever for a head that does not end.  Here a request reaches the application only if its head

1. came within the time, size and field limits,
2. is not an upgrade, and its target is a plain path (RFC 9112 section 3.2.1, origin-form),
3. has one Host (section 3.2) and at most one way of saying where its body ends (section 6.3).

Requests to the inference routes are handed straight to an application that has a method
`converse` (`gateway.edge.caller`); all others go the way of ASGI.  Everything else is refused
(`gateway.edge.bounded`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools

from gateway.edge.bounded import BoundedConnection
from gateway.edge.caller import Caller
from gateway.edge.framing import RefusedRequestError, check_head, malformed, too_large
from gateway.edge.repeats import KnownHead, known_head
from gateway.edge.routes import inference_target

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from gateway.edge.errors import Refusal

    Converse = Callable[[Caller], Coroutine[Any, Any, None]]

_METHOD = b"POST"
_MOST_UNLIKE = 4  # heads in a row that are unlike the one before: then none is kept any more


class EdgeProtocol(BoundedConnection):
    """One connection of a caller, read."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._converse: Converse | None = getattr(self.app, "converse", None)
        self._head_bytes = 0
        # Which chunked body is being received, counted from 1; 0: none.
        self._chunked = 0
        self._chunked_seen = 0
        self._framing_bytes = 0
        self._ahead_bytes = 0
        self._rest_bytes = 0
        # Nothing of a message has come since the end of the one before.
        self._between = True
        self._known: KnownHead | None = None
        self._unlike = 0

    # -- reading ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse; then bound what a head that is not complete yet may still take."""
        if self.lost or self._deaf or self.transport.is_closing():
            return
        known, between, before = self._known, self._between, self.cycle
        if known is not None and between and not self._is_busy():
            body = known.cut(data)
            if body is not None:
                self._take_again(known, body)
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
        if self.cycle is not before or known is not None:
            self._known = self._to_know(data) if between and self._between else None

    def _take_again(self, known: KnownHead, body: bytes) -> None:
        """Take a whole request that needs no parser: it has the head of the one before it."""
        self._unlike = 0
        self._ahead_bytes = 0
        self.cycle = caller = Caller(
            self,
            path=known.path,
            query=known.query,
            headers=known.fields(),
            keep_alive=True,
            expects_continue=False,
            known=known,
        )
        self._start_asgi_task(caller, self.app)
        if body:
            caller.feed(body)
        caller.end_body()

    def _to_know(self, data: bytes) -> KnownHead | None:
        """Return the head of the one request that came in `data`, if it is to be known again."""
        caller = self.cycle
        if not isinstance(caller, Caller) or not caller.keep_alive or self._unlike >= _MOST_UNLIKE:
            return None
        self._unlike += 1
        if self.expect_100_continue:
            return None
        limit = self._limits.header_bytes
        return known_head(data, caller.path, caller.query, caller.headers, limit)

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

    # -- parser callbacks ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._between = False
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
        self._between = True
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

    # -- inside ----------------------------------------------------------------------------

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
