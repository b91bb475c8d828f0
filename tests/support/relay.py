"""A Unix socket in front of a TCP port, byte for byte: for engines that listen on one of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
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


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()


async def _close(server: asyncio.Server) -> None:
    server.close()
