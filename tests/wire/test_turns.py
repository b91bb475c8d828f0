"""A busy worker is read in turns, and nothing of what it sends is lost or forgotten."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from gateway.notary.wire.turns import Turns
from tests.wire.conftest import until

BUSY = 32


class FakeTransport:
    """Says whether it would read; its socket is a real one."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.reading = True
        self.closing = False

    def get_extra_info(self, _name: str) -> Any:
        return self.socket

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Read:
    """A connection that is read in turns, with so many requests running."""

    def __init__(self, running: int) -> None:
        self.running = running
        self.taken: list[bytes] = []
        self.transport = FakeTransport()
        self.turns = Turns(self._act)
        self.turns.begin(cast("asyncio.Transport", self.transport))

    def _act(self, data: memoryview) -> int:
        self.taken.append(bytes(data))
        return self.running

    def arrive(self, data: bytes) -> None:
        """As the transport does that reads."""
        self.turns.space[: len(data)] = data
        self.turns.took(len(data))


@pytest.fixture
def busy() -> Iterator[Read]:
    read = Read(BUSY)
    yield read
    read.turns.end()
    read.transport.socket.close()
    read.transport.peer.close()


async def test_few_requests_are_read_as_they_come() -> None:
    read = Read(7)
    read.arrive(b"one")
    assert read.transport.reading
    read.transport.socket.close()
    read.transport.peer.close()


async def test_what_arrives_between_two_turns_is_read_in_one(busy: Read) -> None:
    busy.arrive(b"first")
    assert not busy.transport.reading
    for piece in (b"se", b"co", b"nd"):
        busy.transport.peer.send(piece)
    await until(lambda: len(busy.taken) > 1)
    assert busy.taken == [b"first", b"second"]
    # Nothing came in the turn after that: what comes next is read at once.
    await until(lambda: busy.transport.reading)
    assert len(busy.taken) == 2


async def test_full_buffer_is_followed_by_the_next_at_once(busy: Read) -> None:
    busy.arrive(bytes(len(busy.turns.space)))
    assert busy.transport.reading


async def test_end_of_the_stream_is_left_to_the_transport(busy: Read) -> None:
    busy.arrive(b"last")
    busy.transport.peer.close()
    await until(lambda: busy.transport.reading)
    assert busy.taken == [b"last"]


async def test_nothing_is_read_while_it_is_held(busy: Read) -> None:
    busy.arrive(b"first")
    busy.turns.hold()
    busy.transport.peer.send(b"second")
    await until(lambda: busy.turns._timer is None)
    assert busy.taken == [b"first"]
    assert not busy.transport.reading
    busy.turns.release()
    assert busy.transport.reading


async def test_release_within_a_turn_waits_for_its_end(busy: Read) -> None:
    busy.arrive(b"first")
    busy.turns.hold()
    busy.turns.release()
    assert not busy.transport.reading
    await until(lambda: busy.transport.reading)


async def test_closed_connection_is_left_alone(busy: Read) -> None:
    busy.arrive(b"first")
    busy.transport.closing = True
    busy.transport.peer.send(b"more")
    await until(lambda: busy.turns._timer is None)
    busy.turns.hold()
    busy.turns.end()
    busy.turns.release()
    assert not busy.transport.reading
