"""Requests to the engine: exact bytes out, exact bytes back, every attempt accounted for."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.limits import UpstreamLimits
from gateway.upstream.pool import Pool

if TYPE_CHECKING:
    from gateway.upstream.address import EngineAddress
    from gateway.upstream.connection import EngineConnection
    from gateway.upstream.head import ResponseHead

_ACCEPT = re.compile(rb"[!-~][ -~]{0,255}")
_ANSWERED = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try: `out` is "ok" or an `UpstreamFailure` word, `ms` runs to the head or failure."""

    out: str
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response, for control calls that need no streaming."""

    status: int
    content_type: str | None
    body: bytes


class Upstream:
    """One engine, reached over TCP or a Unix socket.

    `name` and `local` are what receipts say about it: `local` means that it is this trust
    domain's own engine.
    """

    def __init__(
        self,
        address: EngineAddress,
        limits: UpstreamLimits | None = None,
        *,
        name: str = "engine",
        local: bool = False,
    ) -> None:
        self.name = name
        self.local = local
        self.limits = limits or UpstreamLimits()
        self._authority = address.authority
        self._pool = Pool(address, self.limits)

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a request."""
        return self._pool.idle_count

    def start(
        self, *, path: str, body: bytes, request_id: str, accept: bytes | None = None
    ) -> EngineCall:
        """Prepare a POST of exactly `body`; nothing is sent before `head()` is awaited."""
        accepted = accept if accept is not None and _ACCEPT.fullmatch(accept) else b"*/*"
        head = (
            b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\naccept: %b\r\n"
            b"content-length: %d\r\nx-request-id: "
            % (path.encode("ascii"), self._authority, accepted, len(body))
        )
        return EngineCall(self._pool, self.limits, head, body, request_id)

    async def open(
        self, *, path: str, body: bytes, request_id: str, accept: bytes | None = None
    ) -> tuple[ResponseHead, EngineCall]:
        """`start`, and wait for the head; the call is closed if there is none."""
        call = self.start(path=path, body=body, request_id=request_id, accept=accept)
        try:
            return await call.head(), call
        except BaseException:
            # Whatever ends the wait, a cancelled caller included, ends the request too.
            call.close()
            raise

    async def get(self, path: str, *, request_id: str, max_bytes: int = 1 << 20) -> Answer:
        """Fetch a whole small document, or raise `UpstreamError`."""
        head = b"GET %b HTTP/1.1\r\nhost: %b\r\naccept: application/json\r\nx-request-id: " % (
            path.encode("ascii"),
            self._authority,
        )
        call = EngineCall(self._pool, self.limits, head, b"", request_id)
        try:
            answer = await call.head()
            body = b""
            while data := await call.read():
                body += data
                if len(body) > max_bytes:
                    raise UpstreamError(
                        UpstreamFailure.MALFORMED, f"the document exceeds {max_bytes} bytes"
                    )
        finally:
            call.close()
        return Answer(status=answer.status, content_type=answer.content_type, body=body)

    def close(self) -> None:
        """Close the idle connections; calls under way end with their own requests."""
        self._pool.close()


class EngineCall:
    """One request and its response.

    `close()` may be called at any moment, from any callback: it ends the call, closes the
    connection unless the response was complete, and wakes whoever waits with kind `closed`.
    """

    __slots__ = (
        "_body", "_closed", "_connecting", "_connection", "_head", "_limits", "_loop", "_pool",
        "_request_id", "_started", "attempts", "complete",
    )  # fmt: skip

    def __init__(
        self, pool: Pool, limits: UpstreamLimits, head: bytes, body: bytes, request_id: str
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._head = head
        self._body = body
        self._request_id = request_id
        self._loop = asyncio.get_running_loop()
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[EngineConnection] | None = None
        self._closed = False
        self._started = 0.0
        self.attempts: list[Attempt] = []
        self.complete = False

    async def head(self) -> ResponseHead:
        """Send the request and wait for the head of the answer.

        A request that dies on a reused idle connection before any byte of an answer arrived met
        an engine that was just closing it; it is sent once more, on a fresh connection, under
        its id with "-2" appended.  Nothing else is ever repeated.  Raises `UpstreamError`.
        """
        if self._closed:
            raise UpstreamError(UpstreamFailure.CLOSED, "the request was given up", untouched=True)
        total = self._loop.time() + self._limits.total_timeout
        reused = self._pool.take_idle()
        try:
            return await self._attempt(reused, self._request_id, total)
        except UpstreamError as error:
            if reused is None or not error.untouched or error.kind is not UpstreamFailure.RESET:
                raise
        return await self._attempt(None, self._request_id + "-2", total)

    async def read(self) -> bytes:
        """Return what has arrived of the body; b"" at its end, then `complete` is true.

        Raises `UpstreamError` after everything that arrived before the failure was delivered.
        """
        connection = self._connection
        if connection is None:
            if self._closed and not self.complete:
                raise UpstreamError(UpstreamFailure.CLOSED, "the request was given up")
            return b""
        try:
            data = await connection.read()
        except UpstreamError as error:
            self._note_late_failure(error)
            raise
        return data or self._end()

    def close(self) -> None:
        """End the call: at once, and whatever state it is in."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(UpstreamFailure.CLOSED, "the request was given up")

    async def _attempt(
        self, reused: EngineConnection | None, request_id: str, total: float
    ) -> ResponseHead:
        self._started = self._loop.time()
        try:
            self._connection = connection = reused or await self._connect()
            connection.send(
                self._head + request_id.encode("ascii") + b"\r\n\r\n", self._body, total
            )
            head = await connection.head()
        except UpstreamError as error:
            self._record(error.kind.value)
            self._drop()
            raise
        self._record(_ANSWERED)
        return head

    async def _connect(self) -> EngineConnection:
        # A task of its own, so that close() can end it without cancelling who awaits this call.
        self._connecting = task = self._loop.create_task(self._pool.connect())
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            if not task.cancel():
                _discard(task)
            raise
        finally:
            self._connecting = None
        if self._closed:
            _discard(task)
            raise UpstreamError(UpstreamFailure.CLOSED, "the request was given up", untouched=True)
        return task.result()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(UpstreamFailure.CLOSED, "the attempt failed")

    def _end(self) -> bytes:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.complete = True
            self._pool.give_back(connection)
        return b""

    def _record(self, out: str) -> None:
        elapsed = round((self._loop.time() - self._started) * 1000)
        self.attempts.append(Attempt(out=out, ms=elapsed))

    def _note_late_failure(self, error: UpstreamError) -> None:
        if self.attempts and self.attempts[-1].out == _ANSWERED:
            self.attempts[-1] = Attempt(out=error.kind.value, ms=self.attempts[-1].ms)


def _discard(task: asyncio.Task[EngineConnection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort(UpstreamFailure.CLOSED, "the request was given up")
