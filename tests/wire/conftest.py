"""A served notary, peers that speak to it properly, and one that says whatever it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.notary.local import LocalNotary
from gateway.notary.wire.client import RemoteNotary
from gateway.notary.wire.frames import FROM_NOTARY, MAX_FROM_NOTARY, Frame, FrameReader, Kind
from gateway.notary.wire.server import WireServer
from gateway.notary.wire.socket import bind_notary_socket
from tests.support.notaries import running_notary

PATIENCE = 60.0


class RawPeer:
    """Sends any bytes; reads frames until the notary hangs up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(FROM_NOTARY, max_payload=MAX_FROM_NOTARY)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def rest(self) -> list[Frame]:
        """Everything the notary still says before it ends the connection."""
        found: list[Frame] = []
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while data := await self._reader.read(1 << 16):
                    found.extend(self._frames.feed(data))
        return found

    async def frame(self, kind: Kind) -> Frame:
        """The next frame, which is of this kind."""
        async with asyncio.timeout(PATIENCE):
            while not (found := list(self._frames.feed(await self._reader.read(1 << 16)))):
                pass
        (one,) = found
        assert one.kind is kind
        return one

    def close(self) -> None:
        self._writer.close()


@dataclass(slots=True, kw_only=True)
class Wire:
    """One notary behind a socket."""

    notary: LocalNotary
    server: WireServer
    path: Path
    stack: contextlib.AsyncExitStack

    async def connect(self) -> RemoteNotary:
        remote = await RemoteNotary.connect(self.path)
        self.stack.push_async_callback(remote.close)
        return remote

    async def raw(self) -> RawPeer:
        """A connection whose HELLO was read."""
        peer = RawPeer(*await asyncio.open_unix_connection(self.path))
        self.stack.callback(peer.close)
        await peer.frame(Kind.HELLO)
        return peer


Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """`await serve(…)` starts a notary behind a socket; arguments are the server's."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**options: Any) -> Wire:
            notary = await stack.enter_async_context(running_notary(tmp_path))
            path = tmp_path / "wire" / "notary.sock"
            sock: socket.socket = bind_notary_socket(path)
            server = WireServer(notary, sock, **options)
            await server.start()
            stack.push_async_callback(server.close)
            return Wire(notary=notary, server=server, path=path, stack=stack)

        yield begin


async def until(met: Callable[[], bool]) -> None:
    """Let the loop run until `met()`."""
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)
