"""One request to an engine and its response, with at most one more try (see `again`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.again import did_nothing, may_repeat
from gateway.upstream.attempt import ANSWERED, Attempt
from gateway.upstream.breaker import BROKEN_STREAM
from gateway.upstream.choice import pick

if TYPE_CHECKING:
    from gateway.upstream.client import Upstream
    from gateway.upstream.connection import EngineConnection, Sink
    from gateway.upstream.head import ResponseHead

_OK: Final = 200
_SERVER_ERROR: Final = 500
_BROKEN: Final = frozenset(
    {
        UpstreamFailure.INCOMPLETE,
        UpstreamFailure.MALFORMED,
        UpstreamFailure.RESET,
        UpstreamFailure.TIMEOUT_IDLE,
    }
)
"""What speaks against an engine in the middle of an answer; one that takes its time does not."""


class EngineCall:
    """One request and its response.

    `close()` may be called at any moment, from any callback: it ends the call, closes the
    connection unless the response was complete, and wakes whoever waits with kind `closed`.
    `attempts` has every try in order, at most two.
    """

    __slots__ = (
        "_accept", "_body", "_caller", "_closed", "_connecting", "_connection", "_engine", "_loop",
        "_order", "_path", "_request_id", "_running", "_seconds", "_started", "_trial",
        "_whole_by_http", "attempts", "complete",
    )  # fmt: skip

    def __init__(
        self,
        engine: Upstream,
        path: str,
        body: bytes | None,
        request_id: str,
        accept: bytes | None = None,
        *,
        order: tuple[Upstream, ...] = (),
        seconds: float | None = None,
        caller: bytes = b"",
    ) -> None:
        """`engine` gets the request, `order` are the engines that could; no body is a GET.

        `seconds` bounds all of a control call, which says nothing to the engine's breaker.
        """
        self._engine = engine
        self._path = path
        self._body = body
        self._request_id = request_id
        self._accept = accept
        self._order = order
        self._seconds = seconds
        self._caller = caller
        # Whoever chose the engine claimed it just now.
        self._trial = engine.breaker.trial if seconds is None else 0
        self._whole_by_http = False
        self._loop = asyncio.get_running_loop()
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[EngineConnection] | None = None
        self._running: Upstream | None = None
        self._closed = False
        self._started = 0.0
        self.attempts: list[Attempt] = []
        self.complete = False

    @property
    def label(self) -> str | None:
        """Name and version of the engine that was asked last, as receipts call it."""
        return self._engine.label

    async def head(self) -> ResponseHead:
        """Send the request and wait for the head of the answer; see the module for what is tried
        twice.  The second try has the id with "-2" appended.  Raises `UpstreamError`.
        """
        if self._closed:
            raise _given_up(untouched=True)
        engine = self._engine
        limit = self._seconds or engine.limits.total_timeout
        total = self._loop.time() + limit
        reused = engine.pool.take_idle()
        try:
            head = await self._attempt(engine, reused, self._request_id, total)
        except UpstreamError as error:
            second = self._second(reused, error)
            if second is None:
                raise
        else:
            if head.status < _SERVER_ERROR or len(self._order) < 2:
                return head
            second = await self._in_place_of(engine, head.status)
            if second is None:
                return head
        # On a fresh connection: an idle one could be just as dead.
        self._go_over_to(second)
        return await self._attempt(second, None, self._request_id + "-2", total)

    async def read(self) -> bytes:
        """Return what has arrived of the body; b"" at its end, then `complete` is true.

        Raises `UpstreamError` after everything that arrived before the failure was delivered.
        """
        connection = self._connection
        if connection is None:
            if self._closed and not self.complete:
                raise _given_up()
            return b""
        try:
            data = await connection.read()
        except UpstreamError as error:
            self._note_late_failure(error)
            raise
        return data or self._end()

    async def pour(self, sink: Sink) -> bool:
        """Hand what arrives of the body to `sink`, at once, without a task that has to wake up.

        Returns true at the end of the body, then `complete` is true; false when `sink` returned
        false, which asks for an end of pouring: what arrives then is kept, up to a bound.  Raises
        what `sink` raises, and `UpstreamError` as `read` does.
        """
        connection = self._connection
        if connection is None:
            if self._closed and not self.complete:
                raise _given_up()
            return True
        try:
            if not await connection.pour(sink):
                return False
        except UpstreamError as error:
            self._note_late_failure(error)
            raise
        self._end()
        return True

    def was_whole(self) -> None:
        """Note that the stream had its terminal event: only who reads events can tell."""
        if not self._engine.breaker.clear:
            self._engine.breaker.completed(self._trial)

    def was_cut_short(self) -> None:
        """Note that the stream ended without its terminal event, whatever HTTP says of it."""
        self._engine.breaker.broke(BROKEN_STREAM, self._loop.time(), self._caller, self._trial)

    def close(self) -> None:
        """End the call: at once, and whatever state it is in."""
        self._closed = True
        if self._trial:
            self._end_trial(self._caller)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._running is not None:
            self._drop()

    async def _attempt(
        self, engine: Upstream, reused: EngineConnection | None, request_id: str, total: float
    ) -> ResponseHead:
        self._started = self._loop.time()
        self._running = engine
        engine.in_flight += 1
        body = self._body
        try:
            self._connection = connection = reused or await self._connect(engine)
            if body is None:
                head_bytes = engine.get_head(self._path, request_id)
            else:
                head_bytes = engine.post_head(self._path, self._accept, len(body), request_id)
            connection.send(head_bytes, body or b"", total)
            head = await connection.head()
        except UpstreamError as error:
            self._record(engine, error.kind.value)
            self._judge(engine, error, reused)
            self._drop()
            raise
        engine.heard_at = now = self._record(engine, ANSWERED)
        breaker = engine.breaker
        if (not breaker.clear or head.status >= _SERVER_ERROR) and self._seconds is None:
            self._whole_by_http = head.status == _OK and not head.is_event_stream
            breaker.answered(head.status, now, self._caller, self._trial)
        return head

    async def _in_place_of(self, engine: Upstream, status: int) -> Upstream | None:
        """Return the engine to ask instead of one that refused, None if its refusal stands."""
        if not await did_nothing(engine, status):
            return None
        other = None if self._closed else self._other_than(engine)
        if other is not None:
            self.attempts[-1] = self.attempts[-1]._replace(out=UpstreamFailure.STATUS.value)
            self._drop()
        return other

    def _second(self, reused: EngineConnection | None, error: UpstreamError) -> Upstream | None:
        """Return the engine for another try, None if there must not be one."""
        # Closed in the very turn in which the try failed: nobody would give back another trial.
        if self._closed or not may_repeat(error):
            return None
        first = self._engine
        other = self._other_than(first)
        if other is None and reused is not None and error.kind is UpstreamFailure.RESET:
            return first
        return other

    def _other_than(self, first: Upstream) -> Upstream | None:
        others = tuple(engine for engine in self._order if engine is not first)
        return pick(others, self._loop.time(), self._caller)

    async def _connect(self, engine: Upstream) -> EngineConnection:
        # A task of its own, so that close() can end it without cancelling who awaits this call.
        self._connecting = task = self._loop.create_task(engine.pool.connect())
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
            raise _given_up(untouched=True)
        return task.result()

    def _judge(
        self, engine: Upstream, error: UpstreamError, reused: EngineConnection | None
    ) -> None:
        """Tell the engine's breaker, unless the failure is the caller's or the idle race's."""
        if self._seconds is not None or error.kind is UpstreamFailure.CLOSED:
            return
        if reused is None or not error.untouched or error.kind is not UpstreamFailure.RESET:
            engine.breaker.failed(error.kind, self._loop.time(), self._caller, self._trial)

    def _go_over_to(self, second: Upstream) -> None:
        """Let the next try be at `second`; nobody left the first engine, whatever it was asked."""
        if second is not self._engine:
            self._end_trial(None)
            self._engine = second
            self._trial = second.breaker.trial

    def _end_trial(self, caller: bytes | None) -> None:
        """Give the trial back, if there is one that still says nothing; `caller` is who left."""
        trial, self._trial = self._trial, 0
        self._engine.breaker.abandon(trial, self._loop.time(), caller)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(UpstreamFailure.CLOSED, "the request was given up")
        engine, self._running = self._running, None
        if engine is not None:
            engine.in_flight -= 1

    def _end(self) -> bytes:
        connection, self._connection = self._connection, None
        engine, self._running = self._running, None
        if connection is not None and engine is not None:
            self.complete = True
            engine.in_flight -= 1
            engine.pool.give_back(connection)
            if self._whole_by_http and not engine.breaker.clear:
                engine.breaker.completed(self._trial)
        return b""

    def _record(self, engine: Upstream, out: str) -> float:
        now = self._loop.time()
        elapsed = round((now - self._started) * 1000)
        self.attempts.append(Attempt(engine.name, engine.local, out, elapsed))
        return now

    def _note_late_failure(self, error: UpstreamError) -> None:
        if self.attempts and self.attempts[-1].out == ANSWERED:
            self.attempts[-1] = self.attempts[-1]._replace(out=error.kind.value)
            if self._seconds is None and error.kind in _BROKEN:
                self._engine.breaker.broke(error.kind, self._loop.time(), self._caller, self._trial)


def _given_up(*, untouched: bool = False) -> UpstreamError:
    return UpstreamError(UpstreamFailure.CLOSED, "the request was given up", untouched=untouched)


def _discard(task: asyncio.Task[EngineConnection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().abort(UpstreamFailure.CLOSED, "the request was given up")
