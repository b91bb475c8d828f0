"""Who takes nothing is left; who takes little is not."""

from __future__ import annotations

import asyncio
import heapq
import socket
from collections.abc import Callable
from typing import Any, cast

from gateway.edge.stall import StallWatch, bytes_waiting


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """The two methods of a loop that know the time, and a hand on its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + seconds, call)
        heapq.heappush(self.timers, timer)
        return timer

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0].when <= end:
            timer = heapq.heappop(self.timers)
            self.now = timer.when
            if not timer.cancelled:
                timer.call()
        self.now = end


class Peer:
    """A peer with bytes waiting, watched for 30 seconds without progress."""

    def __init__(self) -> None:
        self.time = Time()
        self.waiting = 1000
        self.left_at: float | None = None
        loop = cast("asyncio.AbstractEventLoop", self.time)
        self.watch = StallWatch(loop, 30.0, lambda: self.waiting, self.leave)

    def leave(self) -> None:
        assert self.left_at is None
        self.left_at = self.time.now - 100.0


def test_peer_that_takes_nothing_is_left_in_time_and_once() -> None:
    peer = Peer()
    peer.watch.start()
    peer.time.pass_by(29.9)
    assert peer.left_at is None
    peer.time.pass_by(1000.0)
    assert peer.left_at == 30.0


def test_peer_that_takes_a_byte_now_and_then_is_never_left() -> None:
    peer = Peer()
    peer.watch.start()
    for _ in range(40):
        peer.time.pass_by(25.0)
        peer.waiting -= 1
    assert peer.left_at is None
    peer.time.pass_by(38.0)
    assert peer.left_at is not None
    assert 1000.0 + 30.0 <= peer.left_at <= 1000.0 + 37.5


def test_peer_that_took_everything_is_watched_no_more() -> None:
    peer = Peer()
    peer.watch.start()
    peer.time.pass_by(20.0)
    peer.watch.stop()
    peer.time.pass_by(100.0)
    assert peer.left_at is None


def test_second_stall_has_its_whole_time_too() -> None:
    peer = Peer()
    peer.watch.start()
    peer.time.pass_by(29.0)
    peer.watch.stop()
    peer.watch.start()
    peer.time.pass_by(29.0)
    assert peer.left_at is None
    peer.time.pass_by(1.0)
    assert peer.left_at == 59.0


def test_beginning_twice_does_not_give_more_time() -> None:
    peer = Peer()
    peer.watch.start()
    peer.time.pass_by(20.0)
    peer.watch.start()
    peer.time.pass_by(10.0)
    assert peer.left_at == 30.0


async def test_bytes_that_the_peer_has_not_read_are_counted_wherever_they_are() -> None:
    """The sum of both buffers falls with every byte the peer's kernel can take for its reader."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    near = socket.socket()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    near.connect(server.getsockname())
    far, _ = server.accept()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    try:
        transport.write(b"x" * 200_000)
        before = bytes_waiting(transport)
        assert before > transport.get_write_buffer_size() > 0
        far.setblocking(False)
        read = 0
        while read < 100_000:
            read += len(await loop.sock_recv(far, 1024))
        assert bytes_waiting(transport) < before
        assert bytes_waiting(transport) >= 200_000 - read - far.getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF
        )
    finally:
        transport.abort()
        far.close()
        server.close()


async def test_nothing_waits_on_a_connection_that_is_gone() -> None:
    class Gone:
        def get_write_buffer_size(self) -> int:
            return 0

        def get_extra_info(self, _name: str) -> Any:
            sock = socket.socket()
            sock.close()
            return sock

    assert bytes_waiting(cast("asyncio.Transport", Gone())) == 0
