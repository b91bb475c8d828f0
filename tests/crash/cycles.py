"""Kill cycles: load, a SIGKILL at a random instant, recovery, audit; again and again."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from gateway.engine.standin import StandInEngine
from tests.crash.audit import World
from tests.crash.client import PATIENCE, exchange
from tests.crash.load import Load
from tests.crash.outside import require
from tests.crash.processes import Running, inhabitants, kill, wait_for
from tests.support.serving import add_key, write_config

KEYS = 3
VICTIMS = {"worker": 60, "notary": 14, "both": 9, "supervisor": 8, "start-up": 4, "drain": 5}
LOG = {
    "checkpoint_seconds": 0.05,
    "epoch_seconds": 0.3,
    "forced_epoch_seconds": 0.1,
    "export_seconds": 0.2,
    "segment_bytes": 1 << 16,
}
_SAMPLE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What happened in one cycle, for the log."""

    number: int
    victim: str
    after_ms: int
    boot: str
    requests: int
    whole: int
    released: int
    checkpoints: int
    start_ms: int

    @property
    def line(self) -> str:
        return (
            f"{self.number} {self.victim} at={self.after_ms}ms boot={self.boot} "
            f"requests={self.requests} whole={self.whole} released={self.released} "
            f"checkpoints={self.checkpoints} start={self.start_ms}ms ok"
        )


@dataclass(slots=True)
class Campaign:
    """A data folder, an engine, and a gateway that is killed over and over.

    Instants and victims are chosen by `seed`; what a request meets there is up to the machine.
    """

    folder: Path
    seed: int
    workers: int
    totals: Counter[str] = field(default_factory=Counter)
    world: World = field(init=False)
    _rng: random.Random = field(init=False)
    _engine: StandInEngine = field(init=False)
    _keys: list[str] = field(default_factory=list)
    _running: Running | None = None
    _starts: int = 0

    def __post_init__(self) -> None:
        self.world = World(data=self.folder / "data")
        self._rng = random.Random(self.seed)  # noqa: S311 - repeatable, no secret
        self._engine = StandInEngine(delay=0.002)

    async def open(self) -> None:
        """Start the engine, in this process, and write keys and configuration."""
        address = await self._engine.start(uds=str(self.folder / "engine.sock"))
        write_config(self.folder, address, log=LOG)
        self._keys = [add_key(self.folder, "--label", f"caller-{n}") for n in range(KEYS)]

    async def close(self) -> None:
        """End what runs, drained, and look at everything once more."""
        if self._running is not None:
            await self._end(self._running, "drain")
        await self._engine.close()
        self.world.audit_unchanged()

    def abort(self) -> None:
        """Leave no process behind, whatever happened."""
        for pid in inhabitants(self.folder):
            kill(pid)

    async def cycle(self, number: int) -> Cycle:
        """One cycle.  Raises `Violation` for a broken promise."""
        running = self._running or await self._start()
        victim = self._rng.choices(list(VICTIMS), list(VICTIMS.values()))[0]
        after = self._rng.uniform(0.02, 0.4)
        own = random.Random(self._rng.random())  # noqa: S311
        load = Load(keys=self._keys, rng=own)
        stop = asyncio.Event()
        callers = asyncio.create_task(load.run(running.port, stop))
        await asyncio.sleep(after)
        ends = victim != "worker" or self.workers == 0
        strike = self._end(running, victim) if ends else self._kill_worker(running)
        striking = asyncio.create_task(strike)
        if not ends:  # the callers go on while a worker is missing, and when it is back
            await asyncio.sleep(self._rng.uniform(0.0, 0.2))
            await striking
        stop.set()
        await callers
        await striking
        self._remember(running.origin, load)
        await self._audit(running, number, ended=ends, victim=victim)
        self.totals.update({"cycles": 1, victim: 1, "requests": len(load.sights)})
        return _told(number, victim, after, running, load)

    async def _start(self) -> Running:
        self._starts += 1
        starting = asyncio.to_thread(Running.start, self.folder, self._starts, self.workers)
        self._running = await starting
        self.totals["starts"] += 1
        return self._running

    async def _kill_worker(self, running: Running) -> None:
        victim = self._rng.choice(running.pids("worker"))
        kill(victim)

        def replaced() -> bool:
            workers = running.pids("worker")
            return victim not in workers and len(workers) == self.workers

        await asyncio.to_thread(wait_for, replaced, "a new worker")

    async def _end(self, running: Running, victim: str) -> None:
        """End the boot by force, or drained; nothing of it may live on."""
        self._running = None
        if victim == "drain":
            running.process.send_signal(signal.SIGTERM)
        else:
            for pid in self._victims(running, victim):
                kill(pid)
        await asyncio.to_thread(running.wait_gone)
        code = running.process.returncode
        if self.workers:
            require(not running.socket.exists(), "no socket is left", str(running.socket))
            left = running.socket.parent.exists() and victim not in ("supervisor", "start-up")
            require(not left, "no folder is left", str(running.socket.parent))
        if victim == "drain":
            require(code == 0, "a drained gateway exits 0", f"{code}\n{running.text[-2000:]}")
        else:
            require(code != 0, "a gateway that lost its notary says so", str(code))

    def _victims(self, running: Running, victim: str) -> list[int]:
        if victim == "notary":
            return running.pids("notary")
        if victim == "both":
            pids = running.pids("notary") + running.pids("worker")[:1]
            self._rng.shuffle(pids)
            return pids
        return [running.process.pid]

    def _remember(self, origin: str, load: Load) -> None:
        for sight in load.sights:
            self.world.sight(origin, sight)
        for note in load.notes:
            self.world.note(note)
        self.totals["checkpoints"] += len(load.notes)
        self.totals["whole answers"] += sum(sight.finished for sight in load.sights)
        self.totals["receipts held"] += sum(sight.answer.token is not None for sight in load.sights)

    async def _audit(self, running: Running, number: int, *, ended: bool, victim: str) -> None:
        origin = running.origin
        if not ended:
            await self.world.audit_living(running.port, origin, sample=_SAMPLE)
            await self._settled(running)
            return
        self.world.audit_ended(origin, drained=self._is_orderly(victim))
        if victim == "start-up":
            await self._kill_start()
            self.world.audit_stillborn()
        again = await self._start()
        await self.world.audit_earlier(again.port, origin, sample=_SAMPLE)
        if number % 50 == 0:
            self.world.audit_unchanged()

    def _is_orderly(self, victim: str) -> bool:
        """Whether the notary had time to seal, quote and close: told so, or left alone."""
        return victim == "drain" or (victim == "supervisor" and self.workers > 0)

    async def _kill_start(self) -> None:
        """Start a boot and kill its supervisor before, while or just after it is ready."""
        self._starts += 1
        running = Running.begin(self.folder, self._starts, self.workers)
        await asyncio.sleep(self._rng.uniform(0.2, 1.2))
        kill(running.process.pid)
        await asyncio.to_thread(running.wait_gone)

    async def _settled(self, running: Running) -> None:
        """A9: nothing runs any more, and every admission has its receipt."""
        async with asyncio.timeout(PATIENCE):
            while True:
                counts = await _counters(running.admin_port)
                if counts["in_flight"] == 0 and counts["admitted"] == counts["receipts"]:
                    return
                await asyncio.sleep(0.02)


async def _counters(port: int) -> Counter[str]:
    """Admissions, receipts and requests in flight, summed over their labels."""
    answer = await exchange(port, "GET", "/metrics")
    counts: Counter[str] = Counter()
    names = {
        "attested_admitted_total": "admitted",
        "attested_receipts_total": "receipts",
        "attested_in_flight": "in_flight",
    }
    for line in answer.body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        family = names.get(name.partition("{")[0])
        if family is not None:
            counts[family] += int(float(value))
    return counts


def _told(number: int, victim: str, after: float, running: Running, load: Load) -> Cycle:
    return Cycle(
        number=number,
        victim=victim,
        after_ms=round(after * 1000),
        boot=running.origin.rpartition("/")[2],
        requests=len(load.sights),
        whole=sum(sight.finished for sight in load.sights),
        released=sum(sight.answer.token is not None for sight in load.sights),
        checkpoints=len(load.notes),
        start_ms=round(running.seconds * 1000),
    )
