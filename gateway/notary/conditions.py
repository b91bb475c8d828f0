"""What is not well with a notary that still issues receipts: disk, clock, epochs.

Looked at once a second, away from the path of requests.  Each condition has a code of a closed
set; whoever asks /readyz is told the codes, and an event marks the beginning and the end of each.

    disk_low         less free space than notary.min_free_bytes: the log ends when it is full
    disk_read_only   the file system of the log takes no writes: the next receipt ends the boot
    disk_unread      the file system does not say
    epoch_late       durable receipts wait for a quote for longer than three epochs
    clock_jumped     the wall clock was set by more than five seconds in the last ten minutes
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.notary.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.settings import Settings
    from gateway.telemetry.metrics import Metrics

DISK_LOW: Final = "disk_low"
DISK_READ_ONLY: Final = "disk_read_only"
DISK_UNREAD: Final = "disk_unread"
EPOCH_LATE: Final = "epoch_late"
CLOCK_JUMPED: Final = "clock_jumped"
CODES: Final = (CLOCK_JUMPED, DISK_LOW, DISK_READ_ONLY, DISK_UNREAD, EPOCH_LATE)
_LATE_EPOCHS: Final = 3
_DISK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionRules:
    """Bounds, in bytes and seconds.  A jump is remembered for `jump_remembered`."""

    min_free_bytes: int = 256 << 20
    late_epoch_seconds: float = 30.0
    jump_seconds: float = 5.0
    jump_remembered: float = 600.0
    look_seconds: float = 1.0


def rules_of(settings: Settings) -> ConditionRules:
    """Return the bounds that these settings mean."""
    return ConditionRules(
        min_free_bytes=settings.notary.min_free_bytes,
        late_epoch_seconds=_LATE_EPOCHS * settings.log.epoch_seconds,
    )


class Conditions:
    """`codes` are those that hold now; `tell` is called with them whenever they change."""

    def __init__(
        self,
        rules: ConditionRules,
        *,
        folder: Path,
        layer: FileLayer,
        metrics: Metrics,
        tell: Callable[[tuple[str, ...]], None],
        emit: Callable[..., None],
        clock: Clock | None = None,
    ) -> None:
        self._rules = rules
        self._folder = folder
        self._layer = layer
        self._metrics = metrics
        self._tell = tell
        self._emit = emit
        self._clock = clock or Clock()
        self._ahead = self._wall_ahead()
        self._jumped_until = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._reading: asyncio.Future[str] | None = None
        self.codes: tuple[str, ...] = ()

    async def start(self) -> None:
        """Look now, and from now on until `close`."""
        await self.look()
        self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def look(self) -> None:
        """Find out what holds now and say what changed."""
        found = {self._clock_code(), self._epoch_code(), await self._disk_code()} - {""}
        before, self.codes = set(self.codes), tuple(sorted(found))
        if found == before:
            return
        for code in sorted(found - before):
            self._emit("condition.began", code=code)
        for code in sorted(before - found):
            self._emit("condition.ended", code=code)
        self._metrics.conditions(self.codes)
        self._tell(self.codes)

    def _epoch_code(self) -> str:
        late = self._metrics.epoch_age() > self._rules.late_epoch_seconds
        return EPOCH_LATE if late else ""

    def _clock_code(self) -> str:
        """The monotonic clock is slewed like the wall clock, but never set: see time(7)."""
        ahead = self._wall_ahead()
        step, self._ahead = ahead - self._ahead, ahead
        if abs(step) > self._rules.jump_seconds:
            self._metrics.clock_jumped(step)
            self._jumped_until = self._clock.monotonic() + self._rules.jump_remembered
        return CLOCK_JUMPED if self._clock.monotonic() < self._jumped_until else ""

    def _wall_ahead(self) -> float:
        return self._clock.wall() - self._clock.monotonic()

    async def _disk_code(self) -> str:
        # In a thread, and one at a time: a file system that hangs must hold up nobody.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read_disk))
        await asyncio.wait((self._reading,), timeout=_DISK_SECONDS)
        return self._reading.result() if self._reading.done() else DISK_UNREAD

    def _read_disk(self) -> str:
        try:
            space = self._layer.space(self._folder)
        except OSError:
            return DISK_UNREAD
        self._metrics.disk_free(space.free_bytes)
        if space.read_only:
            return DISK_READ_ONLY
        return DISK_LOW if space.free_bytes < self._rules.min_free_bytes else ""

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(self._rules.look_seconds)
            await self.look()
