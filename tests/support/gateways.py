"""Running gateways for tests of what stands in front of them: client, commands, examples."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from attestation.policy import parse_policy
from attestation.result import AttestationResult
from gateway.cli.local.gateway import LocalGateway, LocalPlan
from gateway.cli.local.loop import LoopThread
from gateway.cli.local.policy import pin_policy
from gateway.client.judge import Trust
from gateway.client.session import Session
from gateway.engine.scripted import Script, ScriptedEngine
from gateway.engine.standin import StandInEngine

MODEL = "stand-in-1"
Bytes = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A gateway, and the trust of somebody who accepts exactly this (simulated) gateway."""

    gateway: LocalGateway
    trust: Trust
    loop: LoopThread

    def session(self, url: str | None = None) -> Session:
        return Session.connect(url or self.gateway.url, self.trust)


def trust_in(gateway: LocalGateway) -> Trust:
    return Trust(
        policy=parse_policy(pin_policy(gateway.boot).encode()),
        anchors=(gateway.anchor,),
        gate=AttestationResult.require_accepted_or_unsafe_simulated,
    )


@contextmanager
def standing(tls: str = "self-signed", delay: float = 0.0) -> Iterator[Stack]:
    """A gateway in front of the stand-in engine."""
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread())
        engine = StandInEngine(delay=delay)
        address = loop.call(engine.start())
        stack.callback(lambda: loop.call(engine.close()))
        gateway = stack.enter_context(LocalGateway(LocalPlan(upstream=address, tls=tls)))
        yield Stack(gateway=gateway, trust=trust_in(gateway), loop=loop)


@contextmanager
def scripted(script: Script, tls: str = "off") -> Iterator[tuple[Stack, ScriptedEngine]]:
    """A gateway in front of an engine that says what it is told."""
    with ExitStack() as stack:
        loop = stack.enter_context(LoopThread())
        engine = ScriptedEngine(script)
        address = loop.call(engine.start())
        stack.callback(lambda: loop.call(engine.close()))
        gateway = stack.enter_context(LocalGateway(LocalPlan(upstream=address, tls=tls)))
        yield Stack(gateway=gateway, trust=trust_in(gateway), loop=loop), engine


class Relay:
    """Passes TCP connections on and rewrites what passes, in either direction."""

    def __init__(self, port: int, *, to_client: Bytes = bytes, to_gateway: Bytes = bytes) -> None:
        self._port = port
        self.to_client = to_client
        self.to_gateway = to_gateway
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self, uds: Path | None = None) -> None:
        if uds is not None:
            self._server = await asyncio.start_unix_server(self._accept, uds)
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        above = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(
                self._pass(reader, above[1], "to_gateway"),
                self._pass(above[0], writer, "to_client"),
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            above[1].close()
            writer.close()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: str
    ) -> None:
        while data := await source.read(1 << 20):
            change: Bytes = getattr(self, direction)  # looked up each time: tests set it later
            sink.write(change(data))
            await sink.drain()
        sink.close()


@contextmanager
def relay(
    stack: Stack,
    *,
    to_client: Bytes = bytes,
    to_gateway: Bytes = bytes,
    uds: Path | None = None,
) -> Iterator[Relay]:
    """A relay in front of a plain-HTTP gateway, on a port or a Unix socket."""
    one = Relay(
        int(stack.gateway.url.rpartition(":")[2]), to_client=to_client, to_gateway=to_gateway
    )
    stack.loop.call(one.start(uds))
    try:
        yield one
    finally:
        stack.loop.call(one.close())


def closed_port() -> int:
    """A loopback port that nobody listens on, and that the kernel gives to nobody who asks for
    any: Linux takes those from 32768 on."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports were all taken")
