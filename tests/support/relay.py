"""Relays in front of an engine, byte for byte: another kind of socket, or a slow way back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.local.loop import LoopThread

_PIECE = 65536


@contextlib.contextmanager
def unix_relay(path: Path, host: str, port: int) -> Iterator[str]:
    """Relay every connection to `path` to host and port; gives the address `unix:PATH`.

    A side that closes closes the other one too, so that an aborted request reaches the engine.
    """

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_connection(host, port)
        ways = {
            asyncio.create_task(_copy(reader, engine_writer)),
            asyncio.create_task(_copy(engine_reader, writer)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        engine_writer.transport.abort()
        writer.transport.abort()

    with LoopThread() as loop:
        server = loop.call(asyncio.start_unix_server(relay, path))
        try:
            yield f"unix:{path}"
        finally:
            loop.call(_close(server))


@dataclass(slots=True)
class LateRelay:
    """A relay that passes on late that the engine has closed an idle connection.

    `held` is how many connections the engine has open.  Whoever sends on one that it has closed
    gets what its system answers then: a reset, and nothing reached the engine.
    """

    address: str = ""
    held: int = 0

    async def carry(
        self, engine: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection to its end."""
        engine_reader, engine_writer = await asyncio.open_connection(*engine)
        self.held += 1
        way_there = asyncio.create_task(_copy(reader, engine_writer))
        way_back = asyncio.create_task(_copy(engine_reader, writer))
        await asyncio.wait((way_there, way_back), return_when=asyncio.FIRST_COMPLETED)
        engine_closed = not way_there.done()
        for way in (way_there, way_back):
            way.cancel()
        await asyncio.gather(way_there, way_back, return_exceptions=True)
        engine_writer.transport.abort()
        self.held -= 1
        if engine_closed:
            await reader.read(1)
        writer.transport.abort()


@contextlib.contextmanager
def late_relay(host: str, port: int) -> Iterator[LateRelay]:
    """Relay from a loopback port to host and port, see `LateRelay`."""
    relay = LateRelay()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay.carry((host, port), reader, writer)

    with LoopThread() as loop:
        server = loop.call(asyncio.start_server(carry, "127.0.0.1", 0))
        relay.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            loop.call(_close(server))


@dataclass(slots=True)
class SteppedRelay:
    """A relay that passes on an event of a stream only when the caller has the one before.

    Whoever reads the stream calls `seen` for each event.  The end is passed on as it comes.
    """

    loop: LoopThread
    address: str = ""
    steps: int = 0
    _seen: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def seen(self) -> None:
        """The caller has one event more."""
        self.loop.call(self._note())

    async def carry(
        self, engine: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection, which is used for one request, to its end."""
        engine_reader, engine_writer = await asyncio.open_connection(*engine)
        way_there = asyncio.create_task(_copy(reader, engine_writer))
        try:
            head = await engine_reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            if b"text/event-stream" in head:
                await self._step(engine_reader, writer)
            await _copy(engine_reader, writer)
        finally:
            way_there.cancel()
            engine_writer.transport.abort()
            writer.transport.abort()

    async def _step(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            # The end of an event and of the chunk that it came in.
            event = await reader.readuntil(b"\n\n\r\n")
            writer.write(event)
            if b"[DONE]" in event:
                return
            self.steps += 1
            await self._seen.acquire()

    async def _note(self) -> None:
        self._seen.release()


@contextlib.contextmanager
def stepped_relay(host: str, port: int) -> Iterator[SteppedRelay]:
    """Relay from a loopback port to host and port, see `SteppedRelay`."""
    with LoopThread() as loop:
        relay = SteppedRelay(loop)

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await relay.carry((host, port), reader, writer)

        server = loop.call(asyncio.start_server(carry, "127.0.0.1", 0))
        relay.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            loop.call(_close(server))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()


async def _close(server: asyncio.Server) -> None:
    server.close()
