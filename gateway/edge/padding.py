"""Streams that tell a listener on the wire less: the settings, and the release on a tick.

What is written is filled up in `attestation.receipt.padding`; when it is written is decided here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.receipt.padding import Shaping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Read = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPadding:
    """How streams are shaped: writes filled up from `bucket` bytes on, released every `seconds`.

    Zero switches either off.
    """

    bucket: int = 0
    seconds: float = 0.0

    @property
    def shaping(self) -> Shaping:
        """What the exchange has to know of it."""
        return Shaping(bucket=self.bucket, batched=self.seconds > 0)

    def reading(self, read: Read) -> Read:
        """Return `read`, or one that gives out what it reads at the ticks of a clock of its own.

        The clock starts with this call, so that its phase tells nothing of the engine.  What
        comes while a tick is awaited is read after it: an event waits for two ticks at most.
        """
        return _Ticking(read, self.seconds) if self.seconds else read


UNPADDED = StreamPadding()


class _Ticking:
    """Reads, then waits for the next whole number of ticks; failures pass at once."""

    __slots__ = ("_began", "_loop", "_read", "_seconds")

    def __init__(self, read: Read, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def __call__(self) -> bytes:
        data = await self._read()
        since = self._loop.time() - self._began
        await asyncio.sleep(self._seconds - since % self._seconds)
        return data
