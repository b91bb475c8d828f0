"""A server with an application that counts, on the event loop it runs on in production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from gateway.edge.limits import ConnectionLimits
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.tls import BootTls
from gateway.telemetry.edge import EdgeMetrics
from tests.outcomes.bench import Client, Reply


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Seen:
    """One request as the application saw it."""

    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Counting:
    """Answers every request it gets to see with "ok"; `hold` makes it wait first."""

    seen: list[Seen] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    reads: bool = True
    answer: bytes = b"ok"
    failure: Exception | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", self.reads
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.seen.append(Seen(scope["path"], list(scope["headers"]), body))
        self.started.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        headers = [(b"content-length", b"%d" % len(self.answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer, "more_body": False})


class Served:
    """A running server and the clients that talk to it."""

    def __init__(self, app: Counting, server: EdgeServer) -> None:
        self.app = app
        self.server = server
        self.clients: list[Client] = []

    async def connect(self, **options: Any) -> Client:
        address = self.server.address
        if isinstance(address, str):
            streams = await asyncio.open_unix_connection(address, **options)
        else:
            streams = await asyncio.open_connection(*address, **options)
        client = Client(*streams)
        self.clients.append(client)
        return client

    async def say(self, data: bytes) -> Reply:
        client = await self.connect()
        client.send(data)
        return await client.reply()


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    running: list[Served] = []

    async def begin(
        app: Counting | None = None,
        listen: Listen | None = None,
        tls: BootTls | None = None,
        drain_seconds: float = 1.0,
        metrics: EdgeMetrics | None = None,
        **limits: Any,
    ) -> Served:
        server = EdgeServer(
            app or Counting(),
            bind(listen or Listen(), tls),
            tls=tls,
            limits=ConnectionLimits(**limits),
            drain_seconds=drain_seconds,
            metrics=metrics,
        )
        await server.start()
        served = Served(server._server.config.app, server)  # type: ignore[arg-type]
        running.append(served)
        return served

    yield begin
    for served in running:
        for client in served.clients:
            client.leave()
        await served.server.stop()
