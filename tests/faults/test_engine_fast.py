"""What an engine sends is passed on at once, not with what comes next or when it pauses.

Bounded by counts, not by time: a machine that gives a process no turn for seconds fails nothing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest

from tests.faults.bench import Talk, body_of
from tests.outcomes.bench import DONE, EVENTS
from tests.support.serving import PATIENCE, Served, serving

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
# Much more than the sockets and processes between an engine and a caller take while they wait.
MOST = 64 << 20
STEPS = 300
T = TypeVar("T")


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """An engine in a thread: it answers one request with a stream, event by event."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        # What the caller has of the stream, told by the test.
        self.seen = threading.Semaphore(0)

    def begin(self) -> socket.socket:
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        asked = b""
        while not asked.endswith(b"}"):
            asked += connection.recv(65536)
        connection.sendall(HEAD)
        return connection

    def without_a_pause(self) -> bool:
        """Send until the caller has something; whether it had before there was too much of it."""
        burst = chunked(EVENTS[0]) * 20
        with self.begin() as connection:
            sent = 0
            while not (had := self.seen.acquire(blocking=False)) and sent < MOST:
                connection.sendall(burst)
                sent += len(burst)
            connection.sendall(chunked(DONE) + b"0\r\n\r\n")
        return had

    def step_by_step(self) -> int:
        """Send an event whenever the caller has the one before; how many it got in this way."""
        with self.begin() as connection:
            for step in range(STEPS):
                connection.sendall(chunked(EVENTS[0]))
                if not self.seen.acquire(timeout=PATIENCE):
                    return step
            connection.sendall(chunked(DONE) + b"0\r\n\r\n")
        return STEPS

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stream, Served]]:
    stream = Stream()
    health = {"interval": 0.0}
    with serving(tmp_path_factory.mktemp("fast"), stream.url, health=health) as served:
        yield stream, served
    stream.close()


@contextmanager
def working(work: Callable[[], T]) -> Iterator[Future[T]]:
    """The engine at work in a thread; it has ended afterwards."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


@contextmanager
def asked(served: Served) -> Iterator[Talk]:
    talk = Talk(served.url, served.key)
    try:
        talk.ask(body_of(stream=True), "x-receipt: inline")
        yield talk
    finally:
        talk.leave()


def test_first_event_reaches_the_caller_of_an_engine_that_never_pauses(
    gateway: tuple[Stream, Served],
) -> None:
    stream, served = gateway
    with working(stream.without_a_pause) as work, asked(served) as talk:
        assert EVENTS[0] in talk.until(lambda read: EVENTS[0] in read)
        stream.seen.release()
        assert work.result(PATIENCE), "the caller had nothing before the engine had sent all"
        reply = talk.reply()
    assert (reply.status, reply.ended) == (200, True)
    assert reply.body.endswith(DONE)


def test_every_event_reaches_the_caller_before_the_engine_sends_another(
    gateway: tuple[Stream, Served],
) -> None:
    stream, served = gateway
    with working(stream.step_by_step) as work, asked(served) as talk:
        for step in range(1, STEPS + 1):
            talk.until(lambda read: read.count(EVENTS[0]) >= step)  # noqa: B023 - in this turn
            stream.seen.release()
        assert work.result(PATIENCE) == STEPS
        assert talk.reply().body.count(EVENTS[0]) == STEPS
