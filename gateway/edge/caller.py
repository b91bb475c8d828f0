"""The caller's side of one inference request: body in, answer out, and whether it left.

uvicorn's own cycle speaks ASGI, which costs a dictionary, a coroutine and a system call for every
piece of an answer, and a task to notice that the caller left.  On the routes that carry the load
this one stands in its place: it is called straight by the connection on the one side and by the
conversation on the other, and writes a plain answer in one piece.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.edge import failures
from gateway.edge.errors import JSON, error_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from uvicorn.protocols.http.flow_control import FlowControl

    from gateway.edge.errors import Refusal
    from gateway.edge.repeats import KnownHead

    Headers = Sequence[tuple[bytes, bytes]]
    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
_COPY_BYTES: Final = 64 * 1024
"""Up to here a copy is cheaper than a second buffer in the system call."""


class CallerGoneError(Exception):
    """The caller closed its connection before the request was over."""


class BrokenBodyError(Exception):
    """The body broke HTTP: nothing more of it can be read, and `refusal` is the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class LateBodyError(Exception):
    """The body did not arrive in its time."""


class Connection(Protocol):
    """What a request needs of the connection it came on."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    stalled: bool

    def on_response_complete(self) -> None:
        """Go on to the next request."""

    def end(self) -> None:
        """Close once what was sent is taken, or nothing of it is."""


class Caller(RequestResponseCycle):
    """One request: `path` is its route, `headers` and `query` what else its head says.

    `disconnected` turns true in the same instant in which what is sent begins to be dropped, so
    a sender that looks at it right after sending knows whether the transport took the bytes.
    `began_at` and `first_at` are monotonic seconds: when the head of the request was there, and
    when an answer began (None before that); `status` is the one that was sent, 0 before that.
    `known` is what is known of its head if the request before it had the same.
    """

    def __init__(  # a cycle of uvicorn's by its attributes only
        self,
        connection: Connection,
        *,
        path: str,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
        expects_continue: bool,
        known: KnownHead | None = None,
    ) -> None:
        self.path = path
        self.query = query
        self.headers = headers
        self.known = known
        self.transport = connection.transport
        self.flow = connection.flow
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = expects_continue
        self.disconnected = False
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.conversing = False
        self.refused: Refusal | None = None
        self.status = 0
        self.began_at = monotonic()
        self.first_at: float | None = None
        self._connection = connection
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._late = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_gone: Callable[[], None] | None = None

    # -- what the connection calls ---------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take a piece of the body; a reader that is behind stops the connection's reading."""
        self._parts.append(data)
        self._parts_size += len(data)
        if self._parts_size > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self._wake()

    def end_body(self) -> None:
        """Note that the body is whole."""
        self.more_body = False
        self._wake()

    def refuse(self, refusal: Refusal) -> None:
        """Note that the body cannot be read on."""
        self.refused = refusal
        self._wake()

    def leave(self) -> None:
        """Note that the caller is gone, and tell whoever watches."""
        if self.response_complete or self.disconnected:
            return
        self.disconnected = True
        self._wake()
        if self._on_gone is not None:
            self._on_gone()

    # -- what the conversation calls -------------------------------------------------------

    def converse(self) -> None:
        """Answer whatever becomes of this request, until `close`: the connection is not to."""
        self.conversing = True

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` as soon as the caller leaves, now if it has left."""
        self._on_gone = on_gone
        if self.disconnected:
            on_gone()

    def close(self) -> None:
        """Stop watching, and conversing."""
        self._on_gone = None
        self.conversing = False

    def body_is_late(self) -> None:
        """Give up the rest of the body."""
        self._late = True
        self._wake()

    async def body_part(self) -> tuple[bytes, bool]:
        """Return what has arrived of the body, waiting for it, and whether more follows.

        Raises `CallerGoneError`, `LateBodyError`; `BrokenBodyError` while conversing.
        """
        self._require_readable()
        while not self._parts and self.more_body:
            if self.waiting_for_100_continue:
                self.waiting_for_100_continue = False
                self.transport.write(_CONTINUE)
            self.flow.resume_reading()
            self._waiter = self._connection.loop.create_future()
            await self._waiter
            self._require_readable()
        if not self.more_body:
            # A large last piece stopped the reading: without it nobody would see the caller leave.
            self.flow.resume_reading()
        parts, self._parts = self._parts, []
        self._parts_size = 0
        return (parts[0] if len(parts) == 1 else b"".join(parts)), self.more_body

    @property
    def stalled(self) -> bool:
        """Whether the caller was left because it took nothing for too long."""
        return self._connection.stalled

    @property
    def blocked(self) -> bool:
        """Whether the caller reads more slowly than it is sent to."""
        return self.flow.write_paused

    async def drained(self) -> None:
        """Wait until the caller has caught up, or is gone."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def start(self, status: int, headers: Headers) -> None:
        """Send the head of a body that comes in pieces."""
        self._begin(status)
        if not self.disconnected:
            self.transport.write(self._head(headers) + _CHUNKED)

    def began_answer(self) -> None:
        """Note that the first event of a stream is there: its head says nothing of the engine."""
        self.first_at = monotonic()

    def pass_on(self, data: bytes) -> bool:
        """Send a piece of the body, more follows; false if the transport did not take it."""
        if self.disconnected:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def end(self, data: bytes) -> None:
        """Send the last piece of the body."""
        if self.disconnected:
            return
        last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else _LAST_CHUNK
        self.transport.write(last)
        self._complete()

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer, in one piece."""
        self._begin(status)
        if self.disconnected:
            return
        head = self._head(headers) + b"content-length: %d\r\n\r\n" % len(body)
        if len(body) <= _COPY_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))
        self._complete()

    def fail(self) -> None:
        """Say that the gateway failed, if nothing was sent yet; the connection is not kept."""
        self.keep_alive = False
        if not self.response_started:
            body = error_body(self.path, failures.FAILED)
            headers = ((b"content-type", JSON.encode("ascii")), *failures.FAILED.headers)
            self.answer(failures.FAILED.status, headers, body)

    def finish(self) -> None:
        """Nothing more will be sent: an answer that is not complete ends with the connection."""
        if not self.response_complete and not self.disconnected:
            self._connection.end()

    # -- inside ----------------------------------------------------------------------------

    def _require_readable(self) -> None:
        if self.refused is not None:
            raise BrokenBodyError(self.refused)
        if self.disconnected:
            raise CallerGoneError
        if self._late:
            raise LateBodyError

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _begin(self, status: int) -> None:
        self.status = status
        self.first_at = monotonic()
        self.response_started = True
        self.waiting_for_100_continue = False

    def _head(self, headers: Headers) -> bytes:
        lines = [STATUS_LINE[self.status]]
        for name, value in headers:
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        expected = 1 + len(headers) + (not self.keep_alive)
        if head.count(b"\n") != expected or head.count(b"\r") != expected:
            # Values are checked where they come in; one that was not must not become two fields.
            raise RuntimeError("a header field of an answer holds a line end")
        return head

    def _complete(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.end()
        self._connection.on_response_complete()
