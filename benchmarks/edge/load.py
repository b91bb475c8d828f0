"""The load generator: a process of its own that is told, line by line, which load to make.

A closed loop keeps so many requests in flight; processor time of whoever is being watched is read
at the two ends of the window in which answers are counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from benchmarks.edge.client import Client, Tally, request_of
from benchmarks.edge.dialogue import request_body
from benchmarks.edge.meters import cpu_ns
from benchmarks.machine import busy_seconds

_GRACE_SECONDS: Final = 20.0
_SPREAD_SECONDS: Final = 0.2
_BATCH: Final = 200
_RETRY_SECONDS: Final = 0.01


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return a percentile in milliseconds, None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 4)


class Load:
    """One case against one address."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._order = order
        self._host, self._port = order["host"], order["port"]
        body = request_body(size=order["size"], events=order["events"], delay_ms=order["delay_ms"])
        self._request = request_of(
            body, events=order["events"], host=f"{self._host}:{self._port}", key=order["key"]
        )
        self.tally = Tally()
        self.clients: set[Client] = set()
        self._stopping = False
        self._idle = asyncio.Event()

    # -- closed loop -----------------------------------------------------------------------

    async def closed(self) -> dict[str, Any]:
        """Keep requests in flight for the time asked; return what was counted in the window."""
        order = self._order
        for number in range(order["in_flight"]):
            self._loop.create_task(self._begin())
            if order["delay_ms"]:
                await asyncio.sleep(_SPREAD_SECONDS / order["in_flight"])
            elif number % 64 == 63:
                await asyncio.sleep(0.002)
        await asyncio.sleep(order["warm"])
        failed = self.tally.failures
        self.tally = Tally(failures=failed)
        for client in self.clients:
            client.tally = self.tally
        before, began = self._meters(), time.perf_counter()
        await asyncio.sleep(order["seconds"])
        after, elapsed = self._meters(), time.perf_counter() - began
        counted = self._counted(elapsed)
        self._stopping = True
        await self._drain()
        return {
            **counted,
            "failures": self.tally.failures,
            "cpu_ns": {name: after[name] - before[name] for name in after},
        }

    def _counted(self, elapsed: float) -> dict[str, Any]:
        tally = self.tally
        return {
            "seconds": elapsed,
            "finished": tally.finished,
            "events": tally.events,
            "reads": tally.reads,
            **_times(tally),
        }

    async def _begin(self) -> None:
        while not self._stopping:
            try:
                _, client = await self._loop.create_connection(
                    lambda: Client(self.tally, self._next), self._host, self._port
                )
            except OSError:
                self.tally.fail("connect")
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self.clients.add(client)
            client.send(self._request)
            return

    def _next(self, client: Client, reusable: bool) -> None:  # noqa: FBT001 - a callback
        if self._stopping:
            if not any(one.waiting for one in self.clients):
                self._idle.set()
        elif reusable:
            client.send(self._request)
        else:
            self.clients.discard(client)
            self._loop.create_task(self._begin())

    async def _drain(self) -> None:
        """Let what is in flight end; what does not is a failure."""
        if any(client.waiting for client in self.clients):
            try:
                await asyncio.wait_for(self._idle.wait(), self._order.get("grace", _GRACE_SECONDS))
            except TimeoutError:
                for client in self.clients:
                    if client.waiting:
                        self.tally.fail("no end in time")
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for client in tuple(self.clients):
            client.close()
        self.clients.clear()

    # -- bursts ----------------------------------------------------------------------------

    async def bursts(self) -> dict[str, Any]:
        """Open so many new connections at once, each for one stream, several times over."""
        order = self._order
        before, began = self._meters(), time.perf_counter()
        for _ in range(order["repeat"]):
            await self._burst(order["in_flight"])
            await asyncio.sleep(0.05)
        after, elapsed = self._meters(), time.perf_counter() - began
        return {
            **self._counted(elapsed),
            "failures": self.tally.failures,
            "cpu_ns": {name: after[name] - before[name] for name in after},
        }

    async def _burst(self, count: int) -> None:
        left = asyncio.Semaphore(0)
        began = time.perf_counter()

        async def one() -> None:
            try:
                _, client = await self._loop.create_connection(
                    lambda: Client(self.tally, lambda _client, _reusable: left.release()),
                    self._host,
                    self._port,
                )
            except OSError:
                self.tally.fail("connect")
                left.release()
                return
            self.clients.add(client)
            client.send(self._request, began)

        starting = [self._loop.create_task(one()) for _ in range(count)]
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                for _ in range(count):
                    await left.acquire()
        except TimeoutError:
            for client in self.clients:
                if client.waiting:
                    self.tally.fail("no end in time")
        await asyncio.gather(*starting)
        self.close()

    # -- idle streams ----------------------------------------------------------------------

    async def hold(self) -> dict[str, Any]:
        """Open so many streams that send one event and then nothing; leave them open."""
        order = self._order
        before, began = self._meters(), time.perf_counter()
        opened = 0
        while opened < order["in_flight"]:
            batch = min(_BATCH, order["in_flight"] - opened)
            await asyncio.gather(*(self._hold_one() for _ in range(batch)))
            opened += batch
        await self._until_first(order["in_flight"])
        after = self._meters()
        return {
            **self._counted(time.perf_counter() - began),
            "open": sum(1 for one in self.clients if one.waiting and one.first_at),
            "failures": self.tally.failures,
            "cpu_ns": {name: after[name] - before[name] for name in after},
        }

    async def _hold_one(self) -> None:
        try:
            _, client = await self._loop.create_connection(
                lambda: Client(self.tally, lambda _client, _reusable: None),
                self._host,
                self._port,
            )
        except OSError:
            self.tally.fail("connect")
            return
        self.clients.add(client)
        client.send(self._request)

    async def _until_first(self, count: int) -> None:
        until = time.perf_counter() + _GRACE_SECONDS
        while time.perf_counter() < until:
            if len(self.tally.first) + sum(self.tally.failures.values()) >= count:
                return
            await asyncio.sleep(0.05)

    def _meters(self) -> dict[str, int]:
        watched = self._order["watch"]
        read = {name: sum(cpu_ns(process) for process in watched[name]) for name in watched}
        read["load"] = time.process_time_ns()
        read["machine"] = int(busy_seconds() * 1e9)
        return read


def _times(tally: Tally) -> dict[str, float | None]:
    kinds = {"latency": tally.latency, "first": tally.first, "delay": tally.delay}
    return {
        f"{name}_{label}_ms": percentile(values, share)
        for name, values in kinds.items()
        for label, share in (("p50", 0.5), ("p99", 0.99))
    }


async def serve() -> None:
    """Do what each line of standard input says, and answer with a line."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    held: Load | None = None
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    while line := await reader.readline():
        order = json.loads(line)
        if order["do"] == "release":
            if held is not None:
                held.close()
            held, answer = None, {"released": True}
        else:
            load = Load(order)
            if order["do"] == "hold":
                held, answer = load, await load.hold()
            elif order["do"] == "bursts":
                answer = await load.bursts()
            else:
                answer = await load.closed()
        gc.collect()
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Run the process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
