"""Whose quote is next: an epoch's before a challenge's, and neither kind for ever."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto


class Purpose(Enum):
    """What a quote is for."""

    EPOCH = auto()
    CHALLENGE = auto()


class Turns:
    """One turn at a time.

    Of those who wait, epochs come first; only directly after an epoch does a challenge that
    waits come before the next one, so that a platform slower than the epochs are forced still
    answers challenges.
    """

    def __init__(self) -> None:
        self._queues: dict[Purpose, deque[asyncio.Future[None]]] = {
            purpose: deque() for purpose in Purpose
        }
        self._taken = False
        self._last = Purpose.CHALLENGE

    @asynccontextmanager
    async def turn(self, purpose: Purpose) -> AsyncIterator[None]:
        """Wait for a turn and keep it while the context lasts."""
        await self._take(purpose)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, purpose: Purpose) -> None:
        if not self._taken:
            self._taken, self._last = True, purpose
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues[purpose].append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # The turn may have come in the same instant: then somebody else must have it.
            if not waiter.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        first, second = Purpose.EPOCH, Purpose.CHALLENGE
        order = (first, second) if self._last is second else (second, first)
        for purpose in order:
            queue = self._queues[purpose]
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    self._last = purpose
                    waiter.set_result(None)
                    return
        self._taken = False
