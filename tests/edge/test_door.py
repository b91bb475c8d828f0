"""TLS connections before their handshake is over: counted, bounded, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import Any, cast

import pytest

from gateway.edge.crowd import Crowd
from gateway.edge.door import TlsDoor
from gateway.edge.tls import BootTls
from gateway.telemetry.edge import EdgeMetrics
from tests.edge.conftest import Serve, Served
from tests.outcomes.bench import Client

NOW = 1_800_000_000
GOOD = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"
HELLO = b"\x16\x03\x01\x02\x00\x01"  # the beginning of a ClientHello


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def serve_tls(serve: Serve, **options: Any) -> Served:
    return await serve(tls=BootTls.generate(["localhost"], now=NOW), **options)


async def honest(served: Served) -> Client:
    client = await served.connect(ssl=unchecked(), server_hostname="localhost")
    client.send(GOOD)
    assert (await client.reply()).body == b"ok"
    return client


async def ended(client: Client) -> bool:
    """Wait until the server has closed it, and return whether it said nothing before."""
    async with asyncio.timeout(60):
        try:
            return not await client.reader.read()
        except ConnectionError:
            return True


def crowd_of(served: Served) -> Crowd:
    return cast("Any", served.server._server).config.crowd  # type: ignore[no-any-return]


async def inside(served: Served, count: int) -> None:
    async with asyncio.timeout(60):
        while len(crowd_of(served)) != count:  # noqa: ASYNC110 - a crowd tells nobody
            await asyncio.sleep(0.01)


def refused(metrics: EdgeMetrics, reason: str) -> int:
    found = metrics.snapshot()["attested_connections_refused"]
    return sum(cast("int", row[1]) for row in found if row[0] == [reason])


async def test_handshakes_under_way_count_as_connections_of_their_address(serve: Serve) -> None:
    metrics = EdgeMetrics()
    served = await serve_tls(serve, connections_per_address=2, metrics=metrics)
    for _ in range(2):
        (await served.connect()).send(HELLO)
    await inside(served, 2)
    # It is not even answered: that would need a handshake.
    assert await ended(await served.connect())
    assert refused(metrics, "per_address") == 1
    assert len(crowd_of(served)) == 2


async def test_oldest_handshake_gives_way_when_there_are_too_many(serve: Serve) -> None:
    metrics = EdgeMetrics()
    served = await serve_tls(serve, connections=2, metrics=metrics)
    first, second = await served.connect(), await served.connect()
    first.send(HELLO)
    second.send(HELLO)
    await inside(served, 2)
    await honest(served)
    assert await ended(first)
    assert len(crowd_of(served)) == 2
    assert refused(metrics, "connections") == 1


async def test_flood_of_handshakes_keeps_nobody_out(serve: Serve) -> None:
    served = await serve_tls(serve, connections=8)
    for _ in range(40):
        (await served.connect()).send(HELLO)
    await honest(served)
    assert len(crowd_of(served)) <= 8


async def test_connection_is_counted_once_when_its_handshake_is_over(serve: Serve) -> None:
    served = await serve_tls(serve, connections=2)
    clients = [await honest(served), await honest(served)]
    assert len(crowd_of(served)) == 2
    for client in clients:
        client.leave()
    await inside(served, 0)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 64, HELLO + b"\xff" * 600])
async def test_what_is_no_handshake_leaves_its_place_at_once(serve: Serve, said: bytes) -> None:
    served = await serve_tls(serve, header_seconds=3600.0)
    client = await served.connect()
    client.send(said)
    with contextlib.suppress(ConnectionError):
        await client.reader.read()
    await inside(served, 0)


async def test_caller_that_leaves_inside_the_handshake_leaves_its_place(serve: Serve) -> None:
    served = await serve_tls(serve, header_seconds=3600.0)
    client = await served.connect()
    client.send(HELLO)
    await inside(served, 1)
    client.leave()
    await inside(served, 0)


async def test_handshake_that_takes_too_long_is_counted_as_that(serve: Serve) -> None:
    metrics = EdgeMetrics()
    served = await serve_tls(serve, header_seconds=0.2, metrics=metrics)
    client = await served.connect()
    client.send(HELLO)
    assert await ended(client)
    await inside(served, 0)
    assert refused(metrics, "handshake_time") == 1


async def test_handshake_is_not_waited_for_when_the_gateway_stops(serve: Serve) -> None:
    served = await serve_tls(serve, header_seconds=3600.0, drain_seconds=3600.0)
    client = await served.connect()
    client.send(HELLO)
    await inside(served, 1)
    await asyncio.wait_for(served.server.stop(), 60)
    assert await ended(client)
    assert len(crowd_of(served)) == 0


class Exhausted:
    """A listening socket of a process that has no more open files, once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.refusals = [OSError(errno.EMFILE, "too many open files")]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.refusals:
            raise self.refusals.pop()
        return self._sock.accept()


async def test_door_of_a_process_without_open_files_opens_again() -> None:
    sock = Exhausted(socket.create_server(("127.0.0.1", 0)))
    crowd = Crowd(connections=9, per_address=None, clock=asyncio.get_running_loop().time)
    door = TlsDoor(
        cast("socket.socket", sock),
        BootTls.generate(["localhost"], now=NOW).context(),
        _Told,
        crowd=crowd,
        seconds=60.0,
        count=lambda _reason: None,
    )
    door.open(8)
    streams = await asyncio.wait_for(
        asyncio.open_connection(*sock.getsockname(), ssl=unchecked(), server_hostname="a"), 60
    )
    streams[1].close()
    assert sock.refusals == []
    door.close()
    await door.wait_closed()
    sock.close()


async def test_handshakes_that_give_way_before_they_began_are_closed_and_forgotten() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    crowd = Crowd(connections=2, per_address=None, clock=asyncio.get_running_loop().time)
    door = TlsDoor(
        sock,
        BootTls.generate(["localhost"], now=NOW).context(),
        _Told,
        crowd=crowd,
        seconds=60.0,
        count=lambda _reason: None,
    )
    # All are there before the first is accepted, so that one turn of the loop accepts them all.
    clients = [socket.create_connection(sock.getsockname()) for _ in range(8)]
    door.open(8)
    streams = [await asyncio.open_connection(sock=client) for client in clients]
    for reader, _ in streams[:6]:
        assert await asyncio.wait_for(reader.read(), 60) == b""
    assert len(crowd) == 2
    assert len(door._shaking) == 2
    door.close()
    await door.wait_closed()
    sock.close()
    for _, writer in streams:
        writer.close()


class _Told(asyncio.Protocol):
    def __init__(self, entered: Any) -> None:
        self._entered = entered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: ARG002
        self._entered()
