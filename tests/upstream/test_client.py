"""The engine client over real sockets: exact bytes, strict framing, one retry in one case only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import EngineAddress, EngineCall, Upstream, UpstreamLimits, parse_engine_url

ID = "0123456789abcdef0123456789abcdef"
BODY = b'{"model":"m", "x":"\xc3\xa9"}'
# A machine that is busy elsewhere is no engine that is late: tests of lateness bring limits of
# their own, each with one that is short.
PATIENT = UpstreamLimits(
    connect_timeout=60.0, first_byte_timeout=60.0, idle_timeout=60.0, total_timeout=120.0
)

Connect = Callable[..., Awaitable[tuple[ScriptedEngine, Upstream]]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    opened: list[tuple[ScriptedEngine, Upstream]] = []

    async def make(
        play: object, limits: UpstreamLimits = PATIENT, **where: object
    ) -> tuple[ScriptedEngine, Upstream]:
        engine = ScriptedEngine(play)  # type: ignore[arg-type]
        address = await engine.start(**where)  # type: ignore[arg-type]
        upstream = Upstream(parse_engine_url(address), limits)
        opened.append((engine, upstream))
        return engine, upstream

    yield make
    for engine, upstream in opened:
        upstream.close()
        await engine.close()


async def fetch(upstream: Upstream, body: bytes = BODY) -> tuple[int, str | None, bytes]:
    head, call = await upstream.open(path="/v1/x", body=body, request_id=ID)
    parts = []
    try:
        while data := await call.read():
            parts.append(data)
    finally:
        call.close()
    assert call.complete
    return head.status, head.content_type, b"".join(parts)


@asynccontextmanager
async def serving(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[EngineAddress]:
    """A server of one's own, every connection of which is closed in the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield EngineAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def collect(call: EngineCall, into: bytearray) -> None:
    while data := await call.read():
        into += data


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.01)


async def failing(upstream: Upstream) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await fetch(upstream)
    return caught.value


def raw(*writes: bytes) -> Script:
    return Script(writes=writes, close=Close.RAW)


async def test_engine_gets_exactly_the_stated_fields_and_the_exact_body(connect: Connect) -> None:
    engine, upstream = await connect(Script(writes=(b"ok",), close=Close.LENGTH))
    head, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID, accept=b"text/x")
    assert await call.read() == b"ok"
    call.close()
    request = engine.requests[0]
    assert head.status == 200
    assert (request.method, request.target, request.body) == ("POST", "/v1/x", BODY)
    assert {name for name, _ in request.headers} == {
        "host", "content-type", "accept", "content-length", "x-request-id",
    }  # fmt: skip
    assert request.header("x-request-id") == ID
    assert request.header("accept") == "text/x"


@pytest.mark.parametrize("accept", [b"", b"a\x00b", b"\xff", b"x" * 300])
async def test_unusable_accept_is_replaced(connect: Connect, accept: bytes) -> None:
    engine, upstream = await connect(Script(close=Close.LENGTH))
    _, call = await upstream.open(path="/v1/x", body=b"", request_id=ID, accept=accept)
    call.close()
    assert engine.requests[0].header("accept") == "*/*"


async def test_memory_of_what_callers_accept_is_bounded(connect: Connect) -> None:
    _, upstream = await connect(Script(close=Close.LENGTH))
    for number in range(600):
        for accept in (b"text/x%d" % number, b"\xff%d" % number):
            head = upstream.post_head("/v1/x", accept, 7, ID)
            assert (accept in head) is accept.startswith(b"text")
            assert head.endswith(b"\r\ncontent-length: 7\r\nx-request-id: %b\r\n\r\n" % ID.encode())
    assert len(upstream._leads) <= 256
    assert not any(accept and accept.startswith(b"\xff") for _, accept in upstream._leads)


@pytest.mark.parametrize("close", [Close.LENGTH, Close.CLEAN, Close.RST])
async def test_whole_answers_come_back_byte_for_byte(connect: Connect, close: Close) -> None:
    pieces = (b"a\x00\xff", b"\r\n\r\n", b"0\r\n", b"z" * 70_000)
    _, upstream = await connect(Script(writes=pieces, close=close, content_type=JSON, status=404))
    assert await fetch(upstream) == (404, JSON, b"".join(pieces))


async def test_connection_is_used_again_after_a_whole_answer(connect: Connect) -> None:
    ports = set()

    def play(request: object) -> Script:
        ports.add(id(request))
        return Script(writes=(b"ok",), close=Close.LENGTH)

    _, upstream = await connect(play)
    for _ in range(3):
        assert (await fetch(upstream))[2] == b"ok"
        assert upstream.idle_connections == 1


async def test_unix_socket_carries_the_same(connect: Connect, tmp_path: Path) -> None:
    engine, upstream = await connect(
        Script(writes=(b"ok",), close=Close.CLEAN), uds=str(tmp_path / "e.sock")
    )
    assert (await fetch(upstream))[2] == b"ok"
    assert engine.requests[0].header("host") == "localhost"


async def test_connection_the_engine_closed_while_idle_is_not_noticed_by_the_next_request(
    connect: Connect,
) -> None:
    served = 0

    def play(_: object) -> Script:
        nonlocal served
        served += 1
        # The second request meets an engine that closes the connection it came on.
        return Script(close=Close.DROP) if served == 2 else Script(writes=(b"ok",))

    engine, upstream = await connect(play)
    await fetch(upstream)
    call = upstream.start(path="/v1/x", body=BODY, request_id=ID)
    await call.head()
    assert await call.read() == b"ok"
    call.close()
    assert [attempt.out for attempt in call.attempts] == ["reset", "ok"]
    assert [r.header("x-request-id") for r in engine.requests] == [ID, ID, ID + "-2"]
    assert [r.body for r in engine.requests] == [BODY] * 3


async def test_request_is_not_repeated_when_a_fresh_connection_drops(connect: Connect) -> None:
    engine, upstream = await connect(Script(close=Close.DROP))
    error = await failing(upstream)
    assert (error.kind, error.untouched) == (UpstreamFailure.RESET, True)
    assert len(engine.requests) == 1


async def test_request_is_not_repeated_once_a_byte_of_an_answer_arrived(connect: Connect) -> None:
    scripts = iter([Script(writes=(b"ok",)), raw(b"HTTP/1.1 2")])
    engine, upstream = await connect(lambda _: next(scripts))
    await fetch(upstream)
    error = await failing(upstream)
    assert (error.kind, error.untouched) == (UpstreamFailure.RESET, False)
    assert len(engine.requests) == 2


async def test_request_is_repeated_once_at_most(connect: Connect) -> None:
    scripts = iter([Script(writes=(b"ok",)), Script(close=Close.DROP), Script(close=Close.DROP)])
    engine, upstream = await connect(lambda _: next(scripts))
    await fetch(upstream)
    assert (await failing(upstream)).kind is UpstreamFailure.RESET
    assert len(engine.requests) == 3


@pytest.mark.parametrize("close", [Close.SHORT, Close.NO_LAST_CHUNK])
async def test_cut_answer_delivers_what_came_and_then_fails(connect: Connect, close: Close) -> None:
    _, upstream = await connect(Script(writes=(b"abc", b"def"), close=close))
    _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
    got = bytearray()
    with pytest.raises(UpstreamError) as caught:
        await collect(call, got)
    call.close()
    assert got == b"abcdef"
    assert caught.value.kind is UpstreamFailure.INCOMPLETE
    assert not call.complete
    assert [attempt.out for attempt in call.attempts] == ["incomplete"]


HEAD = b"HTTP/1.1 200 OK\r\n"
REFUSED_ANSWERS = {
    "not-http": b"SSH-2.0-x\r\n\r\n",
    "two-lengths": HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "length-and-coding": HEAD
    + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no-framing": HEAD + b"content-type: x/y\r\n\r\nok",
    "other-coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "compressed": HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\nok",
    "two-types": HEAD + b"content-type: a/b\r\ncontent-type: a/b\r\ncontent-length: 0\r\n\r\n",
    "odd-type": HEAD + b"content-type: a/\xff\r\ncontent-length: 0\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"content-length: 2\r\n\r\nok",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "trailers": HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx-t: 1\r\n\r\n",
    "bare-lf": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bad-chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "big-head": HEAD + b"x: " + b"y" * 40_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "endless-head": HEAD + b"x: " + b"y" * 40_000,
    "status-600": b"HTTP/1.1 600 X\r\ncontent-length: 2\r\n\r\nok",
    "many-fields": HEAD + b"x: y\r\n" * 101 + b"content-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED_ANSWERS)
async def test_answer_with_doubtful_framing_is_malformed(connect: Connect, name: str) -> None:
    _, upstream = await connect(raw(REFUSED_ANSWERS[name]))
    error = await failing(upstream)
    assert error.kind is UpstreamFailure.MALFORMED
    assert upstream.idle_connections == 0


async def test_bytes_after_the_end_are_dropped_and_so_is_the_connection(connect: Connect) -> None:
    second = HEAD + b"content-length: 4\r\n\r\nevil"
    engine, upstream = await connect(lambda _: raw(HEAD + b"content-length: 2\r\n\r\nok" + second))
    for _ in range(2):
        assert (await fetch(upstream))[2] == b"ok"
        assert upstream.idle_connections == 0
    assert len(engine.requests) == 2


async def test_unasked_bytes_on_an_idle_connection_never_answer_a_request() -> None:
    late = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")
        await late.wait()
        writer.write(HEAD + b"content-length: 4\r\n\r\nevil")
        await reader.read()

    async with serving(serve) as address:
        upstream = Upstream(address, PATIENT)
        assert (await fetch(upstream, b""))[2] == b"ok"
        kept = upstream.pool.take_idle()
        assert kept is not None
        upstream.pool.give_back(kept)
        late.set()
        await until(lambda: kept.lost)
        assert upstream.pool.take_idle() is None


async def test_connection_the_engine_will_close_is_not_kept(connect: Connect) -> None:
    _, upstream = await connect(raw(HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok"))
    assert (await fetch(upstream))[2] == b"ok"
    assert upstream.idle_connections == 0


async def test_idle_connection_is_dropped_before_the_engine_drops_it(connect: Connect) -> None:
    limits = UpstreamLimits(keep_alive=0.05)
    _, upstream = await connect(Script(writes=(b"ok",)), limits)
    await fetch(upstream)
    assert upstream.idle_connections == 1
    await until(lambda: not upstream.idle_connections)
    assert (await fetch(upstream))[2] == b"ok"


async def test_refused_connection_is_a_connect_failure() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        upstream = Upstream(EngineAddress(host="127.0.0.1", port=port), PATIENT)
        call = upstream.start(path="/v1/x", body=BODY, request_id=ID)
        with pytest.raises(UpstreamError) as caught:
            await call.head()
    assert caught.value.kind is UpstreamFailure.CONNECT
    assert [attempt.out for attempt in call.attempts] == ["connect"]


async def test_absent_unix_socket_is_a_connect_failure(tmp_path: Path) -> None:
    upstream = Upstream(EngineAddress(path=str(tmp_path / "none")), PATIENT)
    assert (await failing(upstream)).kind is UpstreamFailure.CONNECT


async def test_engine_that_accepts_nothing_is_a_connect_timeout() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        # Nobody accepts; once the queue is full, the kernel answers no further handshake.
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        address = EngineAddress(host="127.0.0.1", port=listener.getsockname()[1])
        error = await failing(Upstream(address, UpstreamLimits(connect_timeout=0.2)))
    assert (error.kind, error.untouched) == (UpstreamFailure.TIMEOUT_CONNECT, True)


async def test_engine_that_never_answers_is_a_first_byte_timeout(connect: Connect) -> None:
    limits = UpstreamLimits(first_byte_timeout=0.3, idle_timeout=60)
    engine, upstream = await connect(Script(close=Close.MUTE), limits)
    error = await failing(upstream)
    assert error.kind is UpstreamFailure.TIMEOUT_FIRST_BYTE
    await asyncio.wait_for(engine.left.wait(), 60)


async def test_head_without_body_still_waits_for_the_first_byte(connect: Connect) -> None:
    limits = UpstreamLimits(first_byte_timeout=0.2, idle_timeout=60)
    _, upstream = await connect(Script(close=Close.HANG), limits)
    _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
    with pytest.raises(UpstreamError) as caught:
        await call.read()
    assert caught.value.kind is UpstreamFailure.TIMEOUT_FIRST_BYTE


async def test_engine_that_stops_in_the_middle_is_an_idle_timeout(connect: Connect) -> None:
    limits = UpstreamLimits(first_byte_timeout=60, idle_timeout=0.2)
    engine, upstream = await connect(Script(writes=(b"abc",), close=Close.HANG), limits)
    _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
    assert await call.read() == b"abc"
    with pytest.raises(UpstreamError) as caught:
        await call.read()
    assert caught.value.kind is UpstreamFailure.TIMEOUT_IDLE
    await asyncio.wait_for(engine.left.wait(), 60)


async def test_total_time_bounds_an_engine_that_keeps_talking(connect: Connect) -> None:
    limits = UpstreamLimits(total_timeout=0.3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)

    async with serving(talk) as address:
        error = await failing(Upstream(address, limits))
    assert error.kind is UpstreamFailure.TIMEOUT_TOTAL


async def test_closing_a_call_closes_the_engine_connection_and_wakes_the_reader(
    connect: Connect,
) -> None:
    engine, upstream = await connect(Script(writes=(b"abc",), close=Close.HANG))
    _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
    assert await call.read() == b"abc"
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0)
    call.close()
    for outcome in (reading, call.read()):
        with pytest.raises(UpstreamError) as caught:
            await outcome
        assert caught.value.kind is UpstreamFailure.CLOSED
    assert not call.complete
    await asyncio.wait_for(engine.left.wait(), 60)


async def test_closing_a_call_that_waits_for_the_head_wakes_it(connect: Connect) -> None:
    engine, upstream = await connect(Script(close=Close.MUTE))
    call = upstream.start(path="/v1/x", body=BODY, request_id=ID)
    waiting = asyncio.ensure_future(call.head())
    await until(lambda: engine.requests)
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await waiting
    assert caught.value.kind is UpstreamFailure.CLOSED


async def test_closed_call_sends_nothing(connect: Connect) -> None:
    engine, upstream = await connect(Script(writes=(b"ok",)))
    call = upstream.start(path="/v1/x", body=BODY, request_id=ID)
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await call.head()
    assert caught.value.kind is UpstreamFailure.CLOSED
    assert engine.requests == []


async def test_cancelled_open_leaves_no_connection_behind(connect: Connect) -> None:
    engine, upstream = await connect(Script(close=Close.MUTE))
    opening = asyncio.ensure_future(upstream.open(path="/v1/x", body=BODY, request_id=ID))
    await until(lambda: engine.requests)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await asyncio.wait_for(engine.left.wait(), 60)


async def test_engine_is_not_read_faster_than_the_caller_takes(connect: Connect) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"content-length: 268435456\r\n\r\n")
        while sent < 268435456:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(flood) as address:
        upstream = Upstream(address, UpstreamLimits(buffer_bytes=65536))
        _, call = await upstream.open(path="/v1/x", body=BODY, request_id=ID)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        # Kernel buffers and one pause's worth, far from the whole answer.
        assert sent < 64 << 20
        assert 0 < len(await call.read()) < 4 << 20
        assert len(await call.read()) > 0
        call.close()


async def test_small_documents_are_fetched_whole_and_bounded(connect: Connect) -> None:
    engine, upstream = await connect(
        Script(writes=(b'{"data"', b":[]}"), close=Close.CLEAN, content_type=JSON)
    )
    answer = await upstream.get("/v1/models", request_id=ID)
    assert (answer.status, answer.content_type, answer.body) == (200, JSON, b'{"data":[]}')
    assert (engine.requests[0].method, engine.requests[0].body) == ("GET", b"")
    with pytest.raises(UpstreamError):
        await upstream.get("/v1/models", request_id=ID, max_bytes=5)


async def test_closed_upstream_keeps_no_connection(connect: Connect) -> None:
    _, upstream = await connect(Script(writes=(b"ok",)))
    await fetch(upstream)
    upstream.close()
    assert upstream.idle_connections == 0
    await fetch(upstream)
    assert upstream.idle_connections == 0
