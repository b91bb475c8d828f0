"""What an engine sends is handed on in the callback that read it, as long as somebody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import EngineAddress, EngineCall, Upstream, UpstreamLimits

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
BODY = b'{"model":"m"}'
ID = "0" * 32


class Engine:
    """Answers one request, piece by piece as the test says."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None
        self.there = asyncio.Event()
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(BODY))
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        self.there.set()
        with suppress(ConnectionError):
            await reader.read()
        self.left.set()
        writer.close()

    def send(self, *pieces: bytes, end: bool = False) -> None:
        assert self.writer is not None
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        self.writer.write(data + (b"0\r\n\r\n" if end else b""))

    def close(self) -> None:
        assert self.writer is not None
        self.writer.close()


class Sink:
    """Takes what is poured; has enough after `most` pieces."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most = most
        self.taken: list[bytes] = []
        self.came = asyncio.Event()
        self.failure: Exception | None = None

    def __call__(self, data: bytes) -> bool:
        self.taken.append(data)
        self.came.set()
        if self.failure is not None:
            raise self.failure
        return len(self.taken) < self.most

    @property
    def all(self) -> bytes:
        return b"".join(self.taken)

    async def has(self, data: bytes) -> None:
        async with asyncio.timeout(60):
            while data not in self.all:
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def answering(
    limits: UpstreamLimits | None = None,
) -> AsyncIterator[tuple[Engine, EngineCall]]:
    engine = Engine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    upstream = Upstream(EngineAddress(host=host, port=port), limits or UpstreamLimits())
    try:
        _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
        yield engine, call
        call.close()
    finally:
        upstream.close()
        await asyncio.wait_for(engine.left.wait(), 60)
        server.close()
        await server.wait_closed()


async def test_every_piece_is_handed_on_as_it_comes_and_the_end_is_told() -> None:
    async with answering() as (engine, call):
        sink = Sink()
        pouring = asyncio.create_task(call.pour(sink))
        for piece in (b"one", b"two", b"three"):
            engine.send(piece)
            await sink.has(piece)
        assert not pouring.done()
        assert not call.complete
        engine.send(b"four", end=True)
        assert await pouring is True
        assert sink.all == b"onetwothreefour"
        assert call.complete
        assert await call.pour(sink) is True


async def test_pouring_stops_when_enough_was_taken_and_loses_nothing() -> None:
    async with answering() as (engine, call):
        sink = Sink(most=1)
        engine.send(b"one")
        assert await call.pour(sink) is False
        engine.send(b"two", b"three", end=True)
        sink.most = 1 << 30
        assert await call.pour(sink) is True
        assert sink.all == b"onetwothree"
        assert call.complete


async def test_sink_that_has_enough_with_the_last_piece_is_told_the_end_afterwards() -> None:
    async with answering() as (engine, call):
        sink = Sink(most=1)
        engine.send(b"one", end=True)
        assert await call.pour(sink) is False
        assert await call.pour(sink) is True
        assert sink.all == b"one"


async def test_what_a_sink_raises_is_raised_where_it_came_from() -> None:
    async with answering() as (engine, call):
        sink = Sink()
        pouring = asyncio.create_task(call.pour(sink))
        await engine.there.wait()
        sink.failure = RuntimeError("full")
        engine.send(b"one")
        with pytest.raises(RuntimeError, match="full"):
            await pouring


async def test_failure_comes_after_everything_that_arrived_before_it() -> None:
    async with answering() as (engine, call):
        sink = Sink()
        engine.send(b"one", b"two")
        engine.close()
        with pytest.raises(UpstreamError) as caught:
            await call.pour(sink)
        assert caught.value.kind is UpstreamFailure.INCOMPLETE
        assert sink.all == b"onetwo"
        assert [attempt.out for attempt in call.attempts] == ["incomplete"]


async def test_closing_the_call_ends_the_pouring() -> None:
    async with answering() as (engine, call):
        sink = Sink()
        pouring = asyncio.create_task(call.pour(sink))
        engine.send(b"one")
        await sink.has(b"one")
        call.close()
        for outcome in (pouring, call.pour(sink)):
            with pytest.raises(UpstreamError) as caught:
                await outcome
            assert caught.value.kind is UpstreamFailure.CLOSED
        await asyncio.wait_for(engine.left.wait(), 60)


async def test_sink_may_close_the_call_that_pours_into_it() -> None:
    async with answering() as (engine, call):
        taken = []

        def take(data: bytes) -> bool:
            taken.append(data)
            call.close()
            return True

        engine.send(b"one")
        with pytest.raises(UpstreamError) as caught:
            await call.pour(take)
        assert caught.value.kind is UpstreamFailure.CLOSED
        assert taken == [b"one"]


async def test_nothing_is_handed_to_a_sink_whose_task_was_cancelled() -> None:
    async with answering() as (engine, call):
        sink = Sink()
        pouring = asyncio.create_task(call.pour(sink))
        engine.send(b"one")
        await sink.has(b"one")
        pouring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pouring
        later = Sink()
        engine.send(b"two", end=True)
        assert await call.pour(later) is True
        assert (sink.all, later.all) == (b"one", b"two")


async def test_engine_that_falls_silent_while_it_pours_is_an_idle_timeout() -> None:
    async with answering(UpstreamLimits(idle_timeout=0.2)) as (engine, call):
        sink = Sink()
        engine.send(b"one")
        with pytest.raises(UpstreamError) as caught:
            await call.pour(sink)
        assert caught.value.kind is UpstreamFailure.TIMEOUT_IDLE
        assert sink.all == b"one"


async def test_engine_waits_while_the_sink_has_enough_and_goes_on_afterwards() -> None:
    async with answering(UpstreamLimits(buffer_bytes=1024)) as (engine, call):
        sink = Sink(most=1)
        whole = [b"%06d" % number * 200 for number in range(20_000)]
        engine.send(*whole, end=True)
        assert await call.pour(sink) is False
        sink.most = 1 << 30
        assert await call.pour(sink) is True
        assert sink.all == b"".join(whole)


async def test_what_a_sink_left_is_read_to_its_end_by_other_means() -> None:
    async with answering(UpstreamLimits(buffer_bytes=1024)) as (engine, call):
        connection = call._connection
        assert connection is not None
        assert connection._transport is not None
        engine.send(b"x" * 4096)
        async with asyncio.timeout(60):
            while connection._transport.is_reading():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            assert await call.pour(Sink(most=1)) is False
            engine.send(b"more", end=True)
            assert await call.read() == b"more"
            assert await call.read() == b""
        assert call.complete


async def test_connection_that_was_paused_when_its_stream_ended_carries_another_request() -> None:
    rest = b"data: " + b"x" * 4096 + b"\n\n"
    connections = 0
    go_on, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(BODY))
                writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n")
                await go_on.wait()
                writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        writer.close()
        left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    upstream = Upstream(EngineAddress(host=host, port=port), UpstreamLimits(buffer_bytes=1024))
    try:
        async with asyncio.timeout(60):
            _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
            assert not await call.pour(Sink(most=1))
            go_on.set()
            connection = call._connection
            assert connection is not None
            assert connection._transport is not None
            while connection._transport.is_reading():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            sink = Sink()
            assert await call.pour(sink)
            assert sink.all == rest
            _, second = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
            assert await second.pour(sink)
            second.close()
    finally:
        upstream.close()
        await asyncio.wait_for(left.wait(), 60)
        server.close()
    assert connections == 1
