"""The caller leaves, in every state of a request and in every way: the engine is left too."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from attestation.receipt.claims import End
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.tls import BootTls
from gateway.engine.scripted import JSON, Close, Script
from gateway.notary.interface import Announcement
from tests.outcomes.bench import EVENTS, PATIENT, Bench, Client
from tests.outcomes.conftest import Start

WAITING = {
    "for the head": Script(close=Close.MUTE),
    "inside a plain answer": Script(writes=(b'{"a":',), close=Close.HANG, content_type=JSON),
    "for the first event": Script(close=Close.HANG),
    "for the next event": Script(writes=EVENTS, close=Close.HANG),
}


def abort(client: Client) -> None:
    client.leave()


def close(client: Client) -> None:
    client.writer.close()


def end_its_side(client: Client) -> None:
    client.writer.write_eof()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - neither side has an event for it
            await asyncio.sleep(0.005)


async def ask(bench: Bench, client: Client) -> str:
    """Send a request; return its receipt id once the engine has it."""
    client.send(bench.request())
    await until(lambda: bench.engine.requests)
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    return jti


async def engine_is_left(bench: Bench, jti: str) -> None:
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    claims = (await bench.sealed(jti)).claims
    assert (claims.response.end, claims.response.mods) == (End.CLIENT_ABORT, ())
    assert len(bench.engine.requests) == bench.receipts == 1
    assert bench.reported == []


@pytest.mark.parametrize("leave", [abort, close, end_its_side])
@pytest.mark.parametrize("state", WAITING)
async def test_engine_is_left_whatever_the_request_waits_for(
    start: Start, state: str, leave: Callable[[Client], None]
) -> None:
    bench = await start(WAITING[state], upstream_limits=PATIENT)
    client = await bench.connect()
    jti = await ask(bench, client)
    if state == "for the next event":
        await client.head()
        await client.chunk()
    leave(client)
    await engine_is_left(bench, jti)


@pytest.fixture
async def tls(start: Start) -> AsyncIterator[Callable[[Script], object]]:
    servers: list[EdgeServer] = []

    async def begin(script: Script) -> tuple[Bench, Client]:
        bench = await start(script, upstream_limits=PATIENT)
        own = BootTls.generate(["localhost"], now=1_800_000_000)
        server = EdgeServer(bench.routes, bind(Listen(), own), tls=own, drain_seconds=1)
        await server.start()
        servers.append(server)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        address = server.address
        assert not isinstance(address, str)
        streams = await asyncio.open_connection(*address, ssl=context)
        client = Client(*streams)
        bench.clients.append(client)
        return bench, client

    yield begin
    for server in servers:
        await server.stop()


@pytest.mark.parametrize("leave", [abort, close])
@pytest.mark.parametrize("state", WAITING)
async def test_engine_is_left_behind_tls_too(
    tls: Callable[[Script], object], state: str, leave: Callable[[Client], None]
) -> None:
    bench, client = await tls(WAITING[state])  # type: ignore[misc]
    jti = await ask(bench, client)
    if state == "for the next event":
        await client.head()
        await client.chunk()
    leave(client)
    await engine_is_left(bench, jti)


async def test_connecting_ends_with_the_caller(start: Start) -> None:
    announced: list[str] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # As many as it takes; the next one is not even refused.
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        bench = await start(engine_address=address, upstream_limits=PATIENT)
        announce = bench.notary.announce

        def noting(announcement: Announcement) -> None:
            announced.append(announcement.jti)
            announce(announcement)

        bench.notary.announce = noting  # type: ignore[method-assign]
        client = await bench.connect()
        client.send(bench.request())
        await until(lambda: announced)
        client.leave()
        # It would take a minute to give up by itself.
        claims = (await asyncio.wait_for(bench.sealed(announced[0]), 30)).claims
        for filler in fillers:
            filler.close()
    assert claims.response.end is End.CLIENT_ABORT
    assert [attempt.outcome for attempt in claims.attempts] in ([], ["closed"])
    assert bench.receipts == 1


async def test_hundred_callers_leave_and_every_engine_connection_with_them(start: Start) -> None:
    bench = await start(WAITING["for the next event"], upstream_limits=PATIENT)
    key = bench.new_key(concurrency=100)
    clients = [await bench.connect() for _ in range(100)]
    for client in clients:
        client.send(bench.request(key=key))
    await until(lambda: len(bench.engine.requests) == 100)
    assert bench.engine._server._open
    for client in clients:
        client.leave()
    await until(lambda: not bench.engine._server._open)
    await until(lambda: bench.receipts == 100)
    assert bench.metric("attested_in_flight") == 0
