"""Where the gateway listens, and how it stops."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from attestation.errors import UsageError
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.tls import BootTls
from tests.edge.conftest import Counting, Serve

GOOD = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", "127.0.0.1.x"])  # noqa: S104
def test_plain_http_is_refused_where_others_can_reach_it(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        bind(Listen(host=host), None)
    assert caught.value.code == "plain_http"
    assert host in str(caught.value)
    assert "self-signed" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8"])
def test_plain_http_is_taken_on_loopback(host: str) -> None:
    bind(Listen(host=host), None).close()


def test_any_address_is_taken_with_tls() -> None:
    bind(Listen(host="0.0.0.0"), BootTls.generate(["a"], now=1_800_000_000)).close()  # noqa: S104


def test_address_in_use_is_said_so() -> None:
    with bind(Listen(), None) as taken:
        taken.listen()
        with pytest.raises(UsageError) as caught:
            bind(Listen(port=taken.getsockname()[1]), None)
    assert caught.value.code == "listen"


def test_name_that_does_not_resolve_is_said_so() -> None:
    tls = BootTls.generate(["a"], now=1_800_000_000)
    with pytest.raises(UsageError) as caught:
        bind(Listen(host="no.such.host.invalid"), tls)
    assert caught.value.code == "listen"


async def test_unix_socket_serves_and_is_not_open_to_everyone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    served = await serve(listen=Listen(uds=path))
    assert (await served.say(GOOD)).body == b"ok"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert served.server.address == str(path)


def test_socket_that_nobody_serves_is_replaced_and_one_that_is_served_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    bind(Listen(uds=path), None).close()
    with bind(Listen(uds=path), None) as sock:
        sock.listen()
        with pytest.raises(UsageError):
            bind(Listen(uds=path), None)


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(UsageError):
        bind(Listen(uds=path), None)
    assert path.read_text() == "precious"


async def test_stop_lets_a_running_request_finish(serve: Serve) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app, drain_seconds=60.0)
    client = await served.connect()
    client.send(GOOD)
    await app.started.wait()
    stopping = asyncio.ensure_future(served.server.stop())
    address = served.server.address
    assert not isinstance(address, str)
    async with asyncio.timeout(60):
        while await accepts(address):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert app.hold is not None
    app.hold.set()
    assert (await client.reply()).body == b"ok"
    await stopping


async def test_stop_cuts_what_outlasts_the_drain_time(serve: Serve) -> None:
    app = Counting(hold=asyncio.Event())
    served = await serve(app)
    client = await served.connect()
    client.send(GOOD)
    await app.started.wait()
    await asyncio.wait_for(served.server.stop(), 60)
    answer = await asyncio.wait_for(client.reader.read(), 60)
    assert b" 200 " not in answer


async def test_stop_waits_for_nobody_who_asks_nothing(serve: Serve) -> None:
    """Idle connections and half heads end at once, however long running requests might take."""
    served = await serve(drain_seconds=3600.0)
    idle, half, silent = [await served.connect() for _ in range(3)]
    idle.send(GOOD)
    await idle.reply()
    half.send(GOOD[:-2])
    async with asyncio.timeout(60):
        while len(served.server._server.server_state.connections) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.wait_for(served.server.stop(), 60)
    assert [await client.closed() for client in (idle, half, silent)] == [True] * 3


async def test_stop_is_not_held_up_by_a_caller_that_takes_nothing(serve: Serve) -> None:
    served = await serve(Counting(answer=b"x" * (32 << 20)), stall_seconds=3600.0)
    client = await served.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GOOD)
    await served.app.started.wait()
    await asyncio.wait_for(served.server.stop(), 60)


async def test_server_that_cannot_start_says_why() -> None:
    sock = bind(Listen(), None)
    sock.close()
    with pytest.raises(OSError, match="descriptor"):
        await EdgeServer(Counting(), sock).start()


async def accepts(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    writer.transport.abort()
    return True


def test_sockets_are_stream_sockets() -> None:
    with bind(Listen(), None) as sock:
        assert sock.type & socket.SOCK_STREAM
