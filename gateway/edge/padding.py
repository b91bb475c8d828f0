"""Streams that tell a listener on the wire less: the settings, and the release on a tick.

What is written is filled up in `attestation.receipt.padding`; when it is written is decided here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from attestation.receipt.padding import Shaping


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

    def ticks(self) -> Ticks | None:
        """Return the ticks of a clock of its own for one stream, None if streams have none.

        The clock starts with this call, so that its phase tells nothing of the engine.  What
        comes while a tick is awaited is taken after it: an event waits for two ticks at most.
        """
        return Ticks(self.seconds) if self.seconds else None


UNPADDED = StreamPadding()


class Ticks:
    """Whole numbers of `seconds` since it was made."""

    __slots__ = ("_began", "_loop", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def next(self) -> None:
        """Wait for the next one."""
        since = self._loop.time() - self._began
        await asyncio.sleep(self._seconds - since % self._seconds)
