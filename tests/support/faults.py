"""A proxy that breaks connections exactly where a test says so.

    with faulty("http://127.0.0.1:8000") as proxy:
        proxy.plan = Plan(down=Fault(kind=Kind.RESET, after=100))

A fault is met when byte number `after` (from 0) of its direction arrives, so never by luck; `up`
is towards the target.  What takes time takes the test's: `proxy.step()` lets slow bytes on,
`proxy.go_on()` ends a delay.  Connections that are open keep the plan they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from gateway.cli.local.loop import LoopThread

_PIECE = 65536


class Kind(StrEnum):
    """What becomes of the bytes from `after` on."""

    DELAY = "delay"  # held until `go_on`, then all of them pass
    SLOW = "slow"  # `size` bytes pass at each `step`
    HALF_OPEN = "half-open"  # read no more and passed no more; both sockets stay open
    TRUNCATE = "truncate"  # nothing more: both sides are closed, with FIN
    RESET = "reset"  # both sides get RST
    INSERT = "insert"  # `data` comes first, then they pass
    REPLACE = "replace"  # `data` comes instead, then both sides are closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one direction."""

    kind: Kind
    after: int = 0
    data: bytes = b""
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to a connection; `refuse`: RST at once, and the target hears of nothing."""

    up: Fault | None = None
    down: Fault | None = None
    refuse: bool = False


@dataclass(slots=True, kw_only=True)
class Passed:
    """What passed on one connection: bytes each way, and which end closed it by itself."""

    up: int = 0
    down: int = 0
    client_left: bool = False
    target_left: bool = False
    over: bool = False


@dataclass(slots=True)
class FaultProxy:
    """`address` is what stands in front of `target`; both are `http://HOST:PORT` or `unix:PATH`.

    `plan` is for connections that come, or a function of their number, from 0.
    """

    target: str
    plan: Plan | Callable[[int], Plan] = Plan()
    address: str = ""
    passed: list[Passed] = field(default_factory=list)
    _call: Callable[[Coroutine[object, object, None]], None] = lambda work: work.close()
    _steps: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _going: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> Passed:
        """The newest connection."""
        return self.passed[-1]

    def step(self, times: int = 1) -> None:
        """Let so many slow pieces pass."""
        self._call(self._step(times))

    def go_on(self) -> None:
        """End the delays that have begun."""
        self._call(self._go_on())

    async def _step(self, times: int) -> None:
        for _ in range(times):
            self._steps.release()

    async def _go_on(self) -> None:
        self._going.set()
        self._going.clear()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        plan = self.plan if isinstance(self.plan, Plan) else self.plan(len(self.passed))
        seen = Passed()
        self.passed.append(seen)
        if plan.refuse:
            _reset(writer)
            seen.over = True
            return
        above, beyond = await _connect(self.target)
        ways = {
            asyncio.create_task(self._pass(reader, beyond, seen, "up", plan.up)),
            asyncio.create_task(self._pass(above, writer, seen, "down", plan.down)),
        }
        reset = False
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            reset = any(isinstance(way.exception(), _Reset) for way in done)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for side in (writer, beyond):
                _reset(side) if reset else side.close()
            seen.over = True

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        seen: Passed,
        way: str,
        fault: Fault | None,
    ) -> None:
        """Pass bytes on until the source ends, or a fault ends the connection."""
        try:
            while data := await source.read(_PIECE):
                clean = len(data) if fault is None else max(0, fault.after - getattr(seen, way))
                await _send(sink, data[:clean], seen, way)
                if fault is not None and data[clean:]:
                    await self._meet(fault, data[clean:], sink, seen, way)
                    fault = fault if fault.kind is Kind.SLOW else None
        except ConnectionError:
            pass
        except _Over:
            return
        setattr(seen, "client_left" if way == "up" else "target_left", True)

    async def _meet(
        self, fault: Fault, rest: bytes, sink: asyncio.StreamWriter, seen: Passed, way: str
    ) -> None:
        """Do what the fault says with the first bytes that it concerns."""
        if fault.kind is Kind.RESET:
            raise _Reset
        if fault.kind is Kind.TRUNCATE:
            raise _Over
        if fault.kind is Kind.HALF_OPEN:
            await _for_ever()
        if fault.kind is Kind.SLOW:
            for start in range(0, len(rest), fault.size):
                await self._steps.acquire()
                await _send(sink, rest[start : start + fault.size], seen, way)
            return
        if fault.kind is Kind.DELAY:
            await self._going.wait()
        sink.write(fault.data)
        if fault.kind is Kind.REPLACE:
            await sink.drain()
            raise _Over
        await _send(sink, rest, seen, way)


class _Over(Exception):  # noqa: N818 - no error: the fault ends the connection
    pass


class _Reset(Exception):  # noqa: N818
    pass


async def _send(sink: asyncio.StreamWriter, data: bytes, seen: Passed, way: str) -> None:
    if data:
        sink.write(data)
        await sink.drain()
        setattr(seen, way, getattr(seen, way) + len(data))


async def _for_ever() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target[5:])
    parts = urlsplit(target)
    return await asyncio.open_connection(parts.hostname, parts.port)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def faulty(target: str, *, uds: Path | None = None) -> Iterator[FaultProxy]:
    """A proxy in front of `target`, on a loopback port or the socket `uds`, in its own thread."""
    with LoopThread() as loop:
        proxy = FaultProxy(target, _call=loop.call)
        if uds is not None:
            server = loop.call(asyncio.start_unix_server(proxy.carry, uds))
            proxy.address = f"unix:{uds}"
        else:
            server = loop.call(asyncio.start_server(proxy.carry, "127.0.0.1", 0))
            proxy.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield proxy
        finally:
            loop.call(_close(server))


async def _close(server: asyncio.Server) -> None:
    server.close()
