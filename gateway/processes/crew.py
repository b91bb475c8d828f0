"""The workers of one gateway: started, replaced when they die, ended together."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attestation.errors import AttestationError
from gateway.access.shared_slots import clear_column
from gateway.processes.child_process import ChildProcess
from gateway.processes.counting import ANSWER, ProcessCounts

if TYPE_CHECKING:
    from gateway.edge.tls import BootTls
    from gateway.telemetry.events import Events

MODULE: Final = "gateway.processes.worker"
SLACK_SECONDS: Final = 10.0
_GIVE_UP_AFTER: Final = 6
_STEADY_SECONDS: Final = 2.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_ACK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewPlan:
    """What every worker is told: settings in JSON, the notary's socket and user, descriptors."""

    count: int
    settings: dict[str, Any]
    notary_socket: Path
    notary_uid: int
    listening: socket.socket
    slots: int
    quotas: int
    tls: BootTls | None
    drain_seconds: float


class Crew:
    """`start` starts all; a worker that dies is replaced until `stop`.

    The pause before that grows while it keeps dying young.  A place whose workers do not even
    get ready, again and again, is given up on: `on_failure` is told.
    """

    def __init__(self, plan: CrewPlan, events: Events, on_failure: Callable[[], None]) -> None:
        self._plan = plan
        self._events = events
        self._on_failure = on_failure
        self._workers: dict[int, ChildProcess] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._acks: dict[int, asyncio.Event] = {}
        self._stopping = False
        self.replaced = 0
        self.counts = ProcessCounts()
        self._conditions: list[str] = []

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run, in the order of their places."""
        return [worker.pid for _, worker in sorted(self._workers.items())]

    def tell_conditions(self, codes: list[str]) -> None:
        """Tell every worker, later ones included, what the notary says of its machine."""
        self._conditions = codes
        for worker in self._workers.values():
            worker.channel.send("conditions", codes=codes)

    async def count(self, seconds: float) -> int:
        """Have the workers say what they counted; returns how many did not in time."""
        places = {str(index): worker for index, worker in self._workers.items()}
        return await self.counts.ask(places, seconds)

    async def start(self) -> None:
        """Start every worker and return once all serve; raises what the first one reports."""
        starting = [self._start_worker(index) for index in range(self._plan.count)]
        results = await asyncio.gather(*starting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._keepers = [
            asyncio.create_task(self._keep(index)) for index in range(self._plan.count)
        ]

    async def install(self) -> None:
        """Have every worker use the chain that the plan's TLS key has now."""
        if self._plan.tls is None:
            return
        chain = self._plan.tls.chain_pem.decode("ascii")
        waiting = []
        for index, worker in self._workers.items():
            self._acks[index] = asyncio.Event()
            worker.channel.send("certificate", chain=chain)
            waiting.append(asyncio.create_task(self._acks[index].wait()))
        if waiting:
            # A worker that does not answer is on its way out; its successor gets the chain.
            await asyncio.wait(waiting, timeout=_ACK_SECONDS)
        for task in waiting:
            task.cancel()

    async def stop(self) -> None:
        """Let every worker finish what it runs, at most the drain time, and wait for all."""
        self._stopping = True
        for worker in self._workers.values():
            worker.channel.send("stop")
        patience = self._plan.drain_seconds + SLACK_SECONDS
        await asyncio.gather(*(worker.end(patience) for worker in tuple(self._workers.values())))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        # Whoever was just being started was not there to be told.
        await self.abort()

    def cut(self) -> None:
        """End what `stop` waits for."""
        for worker in self._workers.values():
            worker.channel.send("cut")

    async def abort(self) -> None:
        """End every worker that is left, such as those of a start that failed."""
        self._stopping = True
        await asyncio.gather(*(worker.abort() for worker in tuple(self._workers.values())))

    # -- one place -------------------------------------------------------------------------

    async def _keep(self, index: int) -> None:
        """Replace the worker of one place whenever it dies."""
        quick, unready = 0, 0
        began = time.monotonic()
        while unready <= _GIVE_UP_AFTER:
            code = await self._watch(index)
            if self._stopping:
                return
            self._events.emit("worker.died", worker=index, code=code)
            quick = 0 if time.monotonic() - began >= _STEADY_SECONDS else quick + 1
            deaths = max(quick, unready)
            await asyncio.sleep(min(_FIRST_PAUSE * 2**deaths, _LONGEST_PAUSE) if deaths else 0)
            try:
                await self._start_worker(index)
            except AttestationError:
                unready += 1  # it is gone again, which `_watch` sees at once
                continue
            began, unready = time.monotonic(), 0
            self.replaced += 1
            self._events.emit("worker.started", worker=index, pid=self._workers[index].pid)
        self._on_failure()

    async def _watch(self, index: int) -> int:
        """Listen to a worker until it is gone; returns how it ended."""
        worker = self._workers[index]
        while (message := await worker.channel.receive()) is not None:
            if message["kind"] == "certificate" and index in self._acks:
                self._acks[index].set()
            elif message["kind"] == ANSWER:
                self.counts.note(str(index), message)
        self.counts.gone(str(index))
        code = await worker.end(self._plan.drain_seconds + SLACK_SECONDS)
        clear_column(self._plan.slots, index, self._plan.count)
        return code

    async def _start_worker(self, index: int) -> None:
        plan = self._plan
        listening = plan.listening.fileno()
        inherited = (listening, plan.slots, plan.quotas)
        worker = await ChildProcess.start("worker", MODULE, descriptors=inherited)
        self._workers[index] = worker
        worker.channel.send(
            "start",
            settings=plan.settings,
            socket=str(plan.notary_socket),
            notary_uid=plan.notary_uid,
            index=index,
            listen_fd=listening,
            slots_fd=plan.slots,
            quotas_fd=plan.quotas,
            tls=_tls_members(plan.tls),
            conditions=self._conditions,
        )
        await worker.wait_ready()


def _tls_members(tls: BootTls | None) -> dict[str, Any] | None:
    if tls is None:
        return None
    return {
        "key": tls.key_pem.decode("ascii"),
        "chain": tls.chain_pem.decode("ascii"),
        "names": list(tls.names),
    }
