"""What the supervisor knows of the counts of the processes it started.

    supervisor ──"count"──►  process
               ◄─"counts"──  its snapshot

Each is asked when somebody looks.  One that does not answer in time is shown as it was last; one
that is gone leaves its counters in the sums, as far as they were heard of.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from attestation.errors import MalformedError
from gateway.telemetry.families import Sums, parse_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.processes.channel import Channel, Message
    from gateway.telemetry.edge import Snapshot

ASK = "count"
ANSWER = "counts"


class Asked(Protocol):
    """A process that can be asked."""

    @property
    def channel(self) -> Channel:
        """The way to it."""


class ProcessCounts:
    """The newest snapshot of every process, by its place, and what is left of earlier ones."""

    def __init__(self) -> None:
        self._past = Sums()
        self._newest: dict[str, Snapshot] = {}
        self._heard: dict[str, asyncio.Event] = {}

    async def ask(self, processes: Mapping[str, Asked], seconds: float) -> int:
        """Have all say what they counted; returns how many did not in so many seconds."""
        waiting = []
        for place, process in processes.items():
            heard = self._heard[place] = asyncio.Event()
            process.channel.send(ASK)
            waiting.append(asyncio.create_task(heard.wait()))
        if not waiting:
            return 0
        _, silent = await asyncio.wait(waiting, timeout=seconds)
        for task in silent:
            task.cancel()
        return len(silent)

    def note(self, place: str, message: Message) -> None:
        """Take an answer.  One of another form is none: the process is shown as it was last."""
        try:
            snapshot = parse_snapshot(message.get("snapshot"))
        except MalformedError:
            return
        self._newest[place] = snapshot
        if place in self._heard:
            self._heard[place].set()

    def gone(self, place: str) -> None:
        """Keep what stays of the process that was there."""
        self._past.add_past(self._newest.pop(place, {}))
        if place in self._heard:
            self._heard[place].set()

    @property
    def newest(self) -> tuple[Snapshot, ...]:
        """What each process said last."""
        return tuple(self._newest.values())

    def sums(self) -> Sums:
        """Return everything that is known, added up."""
        sums = self._past.copy()
        for snapshot in self._newest.values():
            sums.add(snapshot)
        return sums
