"""The fault proxy does what its plans say, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.cli.local.loop import LoopThread
from tests.support.faults import Fault, FaultProxy, Kind, Plan, faulty
from tests.support.serving import wait_until

WORDS = bytes(range(256)) * 4


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """A target that sends back what it gets until its peer has ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    with LoopThread() as loop:
        server = loop.call(asyncio.start_server(answer, "127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        loop.call(close(server))


async def close(server: asyncio.Server) -> None:
    server.close()


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultProxy]:
    with echo() as target, faulty(target) as one:
        yield one


def connect(proxy: FaultProxy, plan: Plan) -> socket.socket:
    proxy.plan = plan
    return socket.create_connection(("127.0.0.1", int(proxy.address.rpartition(":")[2])), 60)


def read(sock: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length and (data := sock.recv(length - len(found))):
        found += data
    return found


def rest(sock: socket.socket) -> bytes:
    """What comes until the end, which must not be a reset."""
    return read(sock, 1 << 20)


def test_without_a_fault_everything_passes(proxy: FaultProxy) -> None:
    with connect(proxy, Plan()) as sock:
        sock.sendall(WORDS)
        assert read(sock, len(WORDS)) == WORDS
    wait_until(lambda: proxy.last.over)
    assert (proxy.last.up, proxy.last.down) == (len(WORDS), len(WORDS))
    assert (proxy.last.client_left, proxy.last.target_left) == (True, False)


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("after", [0, 1, 700])
def test_truncated_connection_ends_after_exactly_so_many_bytes(
    proxy: FaultProxy, way: str, after: int
) -> None:
    fault = Fault(kind=Kind.TRUNCATE, after=after)
    plan = Plan(up=fault) if way == "up" else Plan(down=fault)
    with connect(proxy, plan) as sock:
        sock.sendall(WORDS)
        if way == "down":
            assert rest(sock) == WORDS[:after]
        else:
            with contextlib.suppress(ConnectionError):
                rest(sock)
    wait_until(lambda: proxy.last.over)
    assert getattr(proxy.last, way) == after
    assert not proxy.last.client_left


@pytest.mark.parametrize("way", ["up", "down"])
def test_reset_is_one(proxy: FaultProxy, way: str) -> None:
    fault = Fault(kind=Kind.RESET, after=10)
    with connect(proxy, Plan(up=fault) if way == "up" else Plan(down=fault)) as sock:
        sock.sendall(WORDS)
        with pytest.raises(ConnectionResetError):
            rest(sock)
    wait_until(lambda: proxy.last.over)
    assert getattr(proxy.last, way) == 10


def test_refused_connection_never_reaches_the_target(proxy: FaultProxy) -> None:
    # The reset may come while this side still thinks that it connects.
    with pytest.raises(ConnectionError), connect(proxy, Plan(refuse=True)) as sock:
        rest(sock)
    wait_until(lambda: proxy.last.over)
    assert (proxy.last.up, proxy.last.down) == (0, 0)


def test_half_open_connection_stays_and_says_no_more(proxy: FaultProxy) -> None:
    with connect(proxy, Plan(down=Fault(kind=Kind.HALF_OPEN, after=5))) as sock:
        sock.sendall(WORDS)
        assert read(sock, 5) == WORDS[:5]
        wait_until(lambda: proxy.last.up == len(WORDS))
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        assert not proxy.last.over
    wait_until(lambda: proxy.last.over)
    assert proxy.last.client_left


def test_slow_bytes_pass_one_step_at_a_time(proxy: FaultProxy) -> None:
    with connect(proxy, Plan(down=Fault(kind=Kind.SLOW, after=2, size=3))) as sock:
        sock.sendall(WORDS)
        assert read(sock, 2) == WORDS[:2]
        for done in range(1, 4):
            proxy.step()
            assert read(sock, 3) == WORDS[3 * done - 1 : 3 * done + 2]
        assert proxy.last.down == 11
        proxy.step(len(WORDS))
        assert read(sock, len(WORDS) - 11) == WORDS[11:]


def test_delayed_bytes_come_once_they_may(proxy: FaultProxy) -> None:
    with connect(proxy, Plan(up=Fault(kind=Kind.DELAY, after=4))) as sock:
        sock.sendall(WORDS)
        assert read(sock, 4) == WORDS[:4]
        assert proxy.last.up == 4
        proxy.go_on()
        assert read(sock, len(WORDS) - 4) == WORDS[4:]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.INSERT, WORDS[:9] + b"\x00garbage" + WORDS[9:]),
        (Kind.REPLACE, WORDS[:9] + b"\x00garbage"),
    ],
)
def test_garbage_comes_inside_or_instead(proxy: FaultProxy, kind: Kind, expected: bytes) -> None:
    plan = Plan(down=Fault(kind=kind, after=9, data=b"\x00garbage"))
    with connect(proxy, plan) as sock:
        sock.sendall(WORDS)
        assert read(sock, len(expected)) == expected
        if kind is Kind.REPLACE:
            assert rest(sock) == b""


def test_each_connection_may_have_a_plan_of_its_own(proxy: FaultProxy) -> None:
    first = len(proxy.passed)
    broken = Plan(down=Fault(kind=Kind.TRUNCATE))
    proxy.plan = lambda number: broken if number == first else Plan()
    address = ("127.0.0.1", int(proxy.address.rpartition(":")[2]))
    for expected in (b"", b"hi"):
        with socket.create_connection(address, 60) as sock:
            sock.sendall(b"hi")
            assert read(sock, 2) == expected


def test_unix_sockets_are_proxied_too(tmp_path: Path) -> None:
    inner, outer = tmp_path / "in", tmp_path / "out"
    with ExitStack() as stack:
        one = stack.enter_context(faulty(stack.enter_context(echo()), uds=inner))
        two = stack.enter_context(faulty(one.address, uds=outer))
        two.plan = Plan(down=Fault(kind=Kind.TRUNCATE, after=3))
        sock = stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(str(outer))
        sock.sendall(b"through")
        assert rest(sock) == b"thr"
