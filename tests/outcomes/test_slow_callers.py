"""Callers that read slowly, or not at all: bounded memory, a waiting engine, nobody cut unfairly.

Sockets are real, with small buffers; the time a caller has is moved by hand.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import pytest

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End
from attestation.receipt.commitments import verify_commitment
from gateway.edge.limits import ConnectionLimits
from gateway.edge.protocol import EdgeProtocol
from gateway.engine.scripted import Close, Script
from gateway.upstream.connection import EngineConnection
from tests.edge.test_stall import Time
from tests.outcomes.bench import DONE, PATIENT, Bench
from tests.outcomes.conftest import Start

STALL_SECONDS = 30.0
EVENT = b"data: " + b"x" * 16_000 + b"\n\n"
LONG = Script(writes=(EVENT,) * 600, close=Close.HANG)
MOST_BYTES = 256 * 1024


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - the kernel's buffers have no event
            await asyncio.sleep(0.005)


@dataclass
class Slow:
    """A request whose caller has read nothing yet, and whose engine is not read any more."""

    bench: Bench
    sock: socket.socket
    protocol: EdgeProtocol
    engine: EngineConnection
    time: Time

    @property
    def jti(self) -> str:
        jti = self.bench.engine.requests[-1].header("x-request-id")
        assert jti is not None
        return jti

    async def read(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            data = await asyncio.get_running_loop().sock_recv(self.sock, count - len(got))
            assert data, "the connection was closed"
            got += data
        return bytes(got)

    async def read_some(self) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        assert data, "the connection was closed"
        return data

    async def engine_left_alone(self) -> None:
        """Wait until the engine's own end of the connection is closed."""
        await until(lambda: not self.bench.engine._server._open)
        assert self.engine.lost


Begin = Callable[[Script], Awaitable[Slow]]


@pytest.fixture
async def begin(start: Start, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Begin]:
    sockets: list[socket.socket] = []
    paused: list[EngineConnection] = []
    pause = EngineConnection._pause

    def noting(engine: EngineConnection) -> None:
        pause(engine)
        paused.append(engine)

    monkeypatch.setattr(EngineConnection, "_pause", noting)

    async def stalled(script: Script) -> Slow:
        bench = await start(
            script,
            upstream_limits=PATIENT,
            connection_limits=ConnectionLimits(stall_seconds=STALL_SECONDS),
        )
        bench.server._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        sock = socket.socket()
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, bench.server.address)
        connections = bench.server._server.server_state.connections
        await until(lambda: connections)
        protocol = cast("EdgeProtocol", next(iter(connections)))
        time = Time()
        protocol._stall._loop = cast("asyncio.AbstractEventLoop", time)
        await loop.sock_sendall(sock, bench.request())
        await until(lambda: paused and protocol.flow.write_paused)
        return Slow(bench=bench, sock=sock, protocol=protocol, engine=paused[-1], time=time)

    yield stalled
    for sock in sockets:
        sock.close()


async def test_engine_is_read_no_further_and_what_waits_is_bounded(begin: Begin) -> None:
    slow = await begin(LONG)
    waiting = slow.protocol.transport.get_write_buffer_size() + slow.engine._parts_size
    assert 0 < waiting <= MOST_BYTES
    assert slow.engine._paused
    await slow.read(200_000)
    await until(lambda: slow.engine._paused and slow.protocol.flow.write_paused)
    waiting = slow.protocol.transport.get_write_buffer_size() + slow.engine._parts_size
    assert waiting <= MOST_BYTES


async def test_caller_that_takes_a_little_now_and_then_gets_everything(begin: Begin) -> None:
    slow = await begin(Script(writes=(*LONG.writes[:60], DONE)))
    got = b""
    for _ in range(20):
        slow.time.pass_by(STALL_SECONDS - 1)
        waiting = slow.protocol._bytes_waiting()
        # More than a receive buffer holds, so that the kernel has to take notice.
        got += await slow.read(20_000)
        await until(lambda: slow.protocol._bytes_waiting() != waiting)  # noqa: B023
    assert not slow.protocol.stalled
    while not got.endswith(b"0\r\n\r\n"):
        got += await slow.read_some()
    assert DONE in got
    claims = (await slow.bench.sealed(slow.jti)).claims
    assert claims.response.end is End.COMPLETE
    assert claims.response.mods == ()


async def test_caller_that_takes_nothing_is_cut_and_the_receipt_says_so(begin: Begin) -> None:
    slow = await begin(LONG)
    slow.time.pass_by(STALL_SECONDS - 1)
    assert not slow.protocol.transport.is_closing()
    slow.time.pass_by(STALL_SECONDS / 4 + 1)
    assert slow.protocol.transport.is_closing()
    await slow.engine_left_alone()
    sealed = await slow.bench.sealed(slow.jti)
    response = sealed.claims.response
    assert response.end is End.CLIENT_ABORT
    assert response.mods == ("stall",)
    delivered = EVENT * 600
    assert response.length is not None
    assert 0 < response.length < len(delivered)
    assert response.commitment is not None
    taken = delivered[: response.length]
    verify_commitment(response.commitment, sealed.openings.keys["res"], Digest.of(taken), what="c")
    assert len(slow.bench.engine.requests) == slow.bench.receipts == 1


async def test_caller_that_stops_taking_later_is_cut_too(begin: Begin) -> None:
    slow = await begin(LONG)
    await slow.read(100_000)
    await until(lambda: slow.engine._paused and slow.protocol.flow.write_paused)
    slow.time.pass_by(2 * STALL_SECONDS)
    assert slow.protocol.stalled
    assert (await slow.bench.sealed(slow.jti)).claims.response.mods == ("stall",)


@pytest.mark.parametrize("leaving", ["close", "shutdown"])
async def test_slow_caller_that_leaves_is_noticed_at_once(begin: Begin, leaving: str) -> None:
    slow = await begin(LONG)
    if leaving == "close":
        slow.sock.close()
    else:
        slow.sock.shutdown(socket.SHUT_WR)
    await slow.engine_left_alone()
    response = (await slow.bench.sealed(slow.jti)).claims.response
    assert (response.end, response.mods) == (End.CLIENT_ABORT, ())
