"""One soak: a served gateway, an engine that restarts, callers of every kind, and a verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway.engine.standin import StandInEngine
from tests.soak.load import Load, pause, restart_engine
from tests.soak.sampling import Growth, Record
from tests.support.serving import Served, add_key, serving

_DRAIN_SECONDS = 90.0
# Answers that are faults whoever asks; an engine that restarts makes 502, and 503 for a while.
_FAULTS = ("500", "hangs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, how much, and how often things are replaced (seconds)."""

    seconds: float
    rate: float = 12.0
    every: float = 5.0
    keys_every: float = 30.0
    engine_every: float = 45.0
    seed: int = 1


@dataclass(slots=True, kw_only=True)
class Soaked:
    """What a run came to; `failures` is empty where all is as it must be."""

    plan: Plan
    record: Record = field(default_factory=Record)
    seen: Counter[str] = field(default_factory=Counter)
    totals: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def judge(self, *, growth: bool) -> None:
        """Add to `failures` what is wrong; memory and descriptors too, if `growth`."""
        self.failures += [
            f"{self.seen[name]} x {name}" for name in sorted(self.seen) if name.endswith(_FAULTS)
        ]
        if self.totals["admitted"] != self.totals["receipts"]:
            self.failures.append("requests that were admitted and receipts are not as many")
        left = ("in_flight", "connections_open", "internal_errors")
        self.failures += [
            f"{name}: {self.totals[name]}, not 0" for name in left if self.totals[name]
        ]
        if growth:
            self.failures += [f"grows: {g.role} {g.figure}" for g in self.growths() if not g.flat]

    def growths(self) -> list[Growth]:
        return self.record.growths()

    def to_json(self) -> dict[str, Any]:
        """The document: everything but the samples between which nothing happened."""
        return {
            "plan": asdict(self.plan),
            "totals": self.totals,
            "seen": dict(sorted(self.seen.items())),
            "growth": [growth.to_json() for growth in self.growths()],
            "samples": {
                role: [asdict(one) for one in taken[:: max(1, len(taken) // 60)]]
                for role, taken in self.record.samples.items()
            },
            "failures": self.failures,
        }


def soak(folder: Path, plan: Plan, *, growth: bool = True) -> Soaked:
    """Run `plan` in `folder`, which is empty, and judge it."""
    soaked = Soaked(plan=plan)
    asyncio.run(_soak(folder, soaked))
    soaked.judge(growth=growth)
    return soaked


async def _soak(folder: Path, soaked: Soaked) -> None:
    engine = StandInEngine(delay=0.01)
    address = await engine.start()
    limits = {"header_seconds": 5.0, "stall_seconds": 10.0, "keep_alive_seconds": 10}
    opened = serving(folder, address, limits=limits)
    # The engine answers in this loop, so what waits for the gateway's start has a thread.
    served = await asyncio.to_thread(opened.__enter__)
    try:
        await _load(served, engine, int(address.rpartition(":")[2]), soaked)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)
        await engine.close()


async def _load(served: Served, engine: StandInEngine, port: int, soaked: Soaked) -> None:
    plan, stop = soaked.plan, asyncio.Event()
    keys = [served.key]
    keys += [await asyncio.to_thread(add_key, served.folder, "--label", "s") for _ in range(3)]
    load = Load(
        port=served.port,
        keys_file=served.folder / "keys.json",
        keys=keys,
        rng=random.Random(plan.seed),  # noqa: S311 - repeatable on purpose
        rate=plan.rate,
        seen=soaked.seen,
    )
    asyncio.get_running_loop().call_later(plan.seconds, stop.set)
    work = asyncio.gather(
        load.run(stop),
        load.renew_keys(stop, plan.keys_every),
        restart_engine(stop, engine, port, plan.engine_every),
        _watch(served, soaked, stop),
    )
    await work
    soaked.totals = await _drained(served)


async def _watch(served: Served, soaked: Soaked, stop: asyncio.Event) -> None:
    pids = {name: found[0] for name, found in served.pids.items() if found}
    began = time.monotonic()
    while not await pause(stop, soaked.plan.every):
        shown = await asyncio.to_thread(served.metrics)
        receipts = int(_sum(shown, "attested_receipts_total"))
        soaked.record.take(pids, seconds=time.monotonic() - began, receipts=receipts)


async def _drained(served: Served) -> dict[str, int]:
    """The counts once nothing is under way, or as they are when waiting has lasted too long."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        shown = await asyncio.to_thread(served.metrics)
        totals = {
            "admitted": int(_sum(shown, "attested_admitted_total")),
            "receipts": int(_sum(shown, "attested_receipts_total")),
            "in_flight": int(shown["attested_in_flight"]),
            "connections_open": int(_sum(shown, "attested_connections_open")),
            "internal_errors": sum(one["event"] == "internal_error" for one in served.events),
        }
        idle = not totals["in_flight"] and not totals["connections_open"]
        if (idle and totals["admitted"] == totals["receipts"]) or time.monotonic() > deadline:
            return totals
        await asyncio.sleep(0.2)


def _sum(shown: dict[str, float], name: str) -> float:
    return sum(value for key, value in shown.items() if key.partition("{")[0] == name)
