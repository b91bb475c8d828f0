"""Time as the notary sees it: handed in, so that tests can say how late it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """`wall` gives unix seconds, `monotonic` steady ones; `sleep` returns after some of these."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def reaches(self, event: Awaitable[Any], seconds: float) -> bool:
        """Wait until `event` is done, but at most so many seconds; return whether it is.

        A future is neither cancelled nor looked into: its result or exception stays with it.  A
        coroutine is over with the wait.
        """
        waiting = asyncio.ensure_future(event)
        timer = asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait({waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
            return waiting.done()
        finally:
            timer.cancel()
            if waiting is not event:
                waiting.cancel()
