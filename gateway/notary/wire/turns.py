"""When a worker's socket is read: whenever something arrives, or in turns while much is on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

_READ_BYTES: Final = 16 * 1024
"""Read in one turn of the loop: about 23 requests, 2 ms of work.  Receipts that became durable
meanwhile leave between two turns, however much has arrived."""
_EACH_SECONDS: Final = 1 / 12_000
_LONGEST_SECONDS: Final = 0.003
_SHORTEST_SECONDS: Final = 0.00065  # timers of the loop hardly tell less from nothing


class Turns:
    """Reads one connection.

    `act` takes what was read and returns how many requests are running, on whichever connection.
    The more there are, the longer it is until the next turn: a twelfth of a millisecond for
    each, up to three.  What arrives meanwhile stays with the kernel.  Every time that the notary is
    woken, and every batch that it commits, costs about 50 microseconds of processor time, so that
    without turns a busy notary spends more on being woken than on receipts; below eight requests
    nothing waits.
    """

    def __init__(self, act: Callable[[memoryview], int]) -> None:
        self._act = act
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self.space = memoryview(bytearray(_READ_BYTES))

    def begin(self, transport: asyncio.Transport) -> None:
        """Take charge of when this transport reads; it reads into `space`."""
        self._transport = transport
        self._descriptor = transport.get_extra_info("socket").fileno()

    def took(self, nbytes: int) -> None:
        """Act on so many bytes in `space`, which the transport has read."""
        if self._wait_after(nbytes):
            self._pause()

    def hold(self) -> None:
        """Read nothing until `release`."""
        self._held = True
        self._pause()

    def release(self) -> None:
        """Read again."""
        self._held = False
        if self._timer is None:
            self._resume()

    def end(self) -> None:
        """Read nothing any more by itself."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_after(self, nbytes: int) -> bool:
        """Act on what was read; whether the next turn is some time away."""
        began = time.monotonic()
        running = self._act(self.space[:nbytes])
        length = min(running * _EACH_SECONDS, _LONGEST_SECONDS)
        if length < _SHORTEST_SECONDS or nbytes == _READ_BYTES or self._transport is None:
            return False
        rest = began + length - time.monotonic()
        if rest < _SHORTEST_SECONDS:
            return False
        self._timer = asyncio.get_running_loop().call_later(rest, self._next)
        return True

    def _next(self) -> None:
        self._timer = None
        if self._held:
            return
        try:
            nbytes = os.readv(self._descriptor, [self.space])
        except OSError:
            nbytes = 0
        # Nothing there, or the end, which is the transport's to see.
        if not nbytes or not self._wait_after(nbytes):
            self._resume()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
