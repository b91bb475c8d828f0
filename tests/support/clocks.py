"""Time that a test moves by hand."""

from __future__ import annotations

import asyncio

from gateway.notary.clock import Clock


class FakeTime:
    """Seconds that pass only in `advance`; whoever sleeps until then is woken in order."""

    def __init__(self, now: float = 1_000.0, *, wall: float = 1_763_668_800.0) -> None:
        self.now = now
        self._wall_ahead = wall - now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    @property
    def clock(self) -> Clock:
        """What the code under test gets."""
        return Clock(
            wall=lambda: self.now + self._wall_ahead,
            monotonic=lambda: self.now,
            sleep=self._sleep,
        )

    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass, and everything run that this makes ready."""
        await settle()
        until = self.now + seconds
        while due := [at for at, sleeper in self._sleepers if at <= until and not sleeper.done()]:
            self.now = max(self.now, min(due))
            for at, sleeper in self._sleepers:
                if at <= self.now and not sleeper.done():
                    sleeper.set_result(None)
            self._sleepers = [item for item in self._sleepers if not item[1].done()]
            await settle()
        self.now = until
        await settle()

    async def _sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, sleeper))
        try:
            await sleeper
        finally:
            self._sleepers = [item for item in self._sleepers if item[1] is not sleeper]


async def settle() -> None:
    """Let every task run that can run without time, threads or sockets."""
    for _ in range(50):
        await asyncio.sleep(0)
