"""Sends changed requests to a served gateway and says which must not have been answered so."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gateway.engine.standin import DEFAULT_MODEL, StandInEngine
from gateway.engine.wire import EngineRequest, Wire
from tests.crash.client import exchange
from tests.mutated.requests import mutate, right_requests
from tests.support.serving import Served, serving

# The gateway's own limits end every connection long before; reaching it is a finding.
HANG_SECONDS = 60.0
LIMITS = {
    "header_seconds": 0.4, "body_seconds": 0.4, "stall_seconds": 2.0, "keep_alive_seconds": 1,
    "refusals_per_second": 100_000.0,
}  # fmt: skip
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_WIDTH = 48


class CountingEngine(StandInEngine):
    """A healthy engine that remembers the ids under which it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str | None] = []

    async def _handle(self, request: EngineRequest, wire: Wire) -> None:
        if request.method == "POST":
            self.ids.append(request.header("x-request-id"))
        await super()._handle(request, wire)


@dataclass(slots=True)
class Driven:
    """What came of the inputs: first statuses (0: none), and what is wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    inputs: int = 0
    findings: list[str] = field(default_factory=list)


def drive(
    folder: Path, *, runs: int, seed: int, keep: Path, inputs: list[bytes] | None = None
) -> Driven:
    """Send `runs` changed requests (or `inputs`) to a gateway in `folder`, which is empty.

    What must not be is in `findings`: an answer of 500 or more, a connection that hangs, a
    request that the engine got twice, an internal error, a request without its receipt.  The
    inputs of the first two kinds are written to `keep`, under their hashes.
    """
    return asyncio.run(_drive(folder, runs, seed, keep, inputs))


async def _drive(
    folder: Path, runs: int, seed: int, keep: Path, inputs: list[bytes] | None
) -> Driven:
    engine, driven = CountingEngine(), Driven()
    address = await engine.start()
    opened = serving(folder, address, limits=LIMITS, health={"interval": 0.0})
    served = await asyncio.to_thread(opened.__enter__)
    try:
        given = iter(inputs) if inputs else _inputs(served.key, runs, seed)
        work = (_send_all(served.port, given, driven, keep) for _ in range(_WIDTH))
        await asyncio.gather(*work)
        await _judge(served, engine, driven)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)
        await engine.close()
    return driven


def _inputs(key: str, runs: int, seed: int) -> Iterator[bytes]:
    """The same for equal seeds, but for the key, which has the same length in each run."""
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    right = right_requests(key, DEFAULT_MODEL)
    yield from right
    for _ in range(runs):
        yield mutate(rng, rng.choice(right), right)


async def _send_all(port: int, inputs: Iterator[bytes], driven: Driven, keep: Path) -> None:
    for data in inputs:
        driven.inputs += 1
        try:
            async with asyncio.timeout(HANG_SECONDS):
                answer = await _send(port, data)
        except TimeoutError:
            driven.findings.append(f"{_kept(keep, data)}: hangs")
            continue
        statuses = [int(status) for status in _STATUS.findall(answer)]
        driven.statuses[statuses[0] if statuses else 0] += 1
        if any(status >= 500 for status in statuses):
            driven.findings.append(f"{_kept(keep, data)}: answered {statuses}")


async def _send(port: int, data: bytes) -> bytes:
    """Everything that comes until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = b""
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            while piece := await reader.read(65536):
                found += piece
    finally:
        writer.transport.abort()
    return found


def _kept(keep: Path, data: bytes) -> str:
    keep.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:16]
    (keep / f"edge-{name}.bin").write_bytes(data)
    return f"edge-{name}.bin"


async def _judge(served: Served, engine: CountingEngine, driven: Driven) -> None:
    """Look at the gateway after the last answer."""
    answer = await exchange(served.port, "GET", "/readyz")
    if served.process.poll() is not None or answer.status != 200:
        driven.findings.append(f"the gateway is not ready any more: {answer.body[:200]!r}")
        return
    shown = await _settled(served)
    admitted, receipts = _sum(shown, "attested_admitted_total"), _sum(shown, "attested_receipts_t")
    if admitted != receipts:
        driven.findings.append(f"{admitted:g} requests, {receipts:g} receipts")
    if len(set(engine.ids)) != len(engine.ids) or any(i is None or "-" in i for i in engine.ids):
        driven.findings.append("the engine got a request twice")
    if len(engine.ids) > admitted:
        driven.findings.append(f"{len(engine.ids)} engine requests for {admitted:g} admitted ones")
    kinds = [event["kind"] for event in served.events if event["event"] == "internal_error"]
    driven.findings += [f"internal error: {kind}" for kind in kinds]


async def _settled(served: Served) -> dict[str, float]:
    shown = await asyncio.to_thread(served.metrics)
    for _ in range(600):
        if not shown["attested_in_flight"]:
            break
        await asyncio.sleep(0.1)
        shown = await asyncio.to_thread(served.metrics)
    return shown


def _sum(shown: dict[str, float], name: str) -> float:
    return sum(value for sample, value in shown.items() if sample.startswith(name))
