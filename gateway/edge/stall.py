"""Noticing that a peer takes nothing of what waits for it.

Progress is what the peer acknowledged, not what fitted into a buffer on the way: a reader that
takes a little every few seconds is slow, not gone, although neither our buffer nor the kernel's
may have room for more for a long time.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_LOOKS: Final = 4
"""How often to look in the time a peer has; it is left between that time and a quarter more."""


class StallWatch:
    """Calls `give_up` once `waiting()`, the bytes that wait, has not changed for `seconds`."""

    __slots__ = ("_give_up", "_loop", "_seconds", "_seen", "_since", "_timer", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        waiting: Callable[[], int],
        give_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._waiting = waiting
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0
        self._since = 0.0

    def start(self) -> None:
        """Begin to look; one that has begun goes on."""
        if self._timer is None:
            self._seen = self._waiting()
            self._since = self._loop.time()
            self._look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        left, now = self._waiting(), self._loop.time()
        if left != self._seen:
            self._seen, self._since = left, now
        elif now - self._since >= self._seconds:
            self._give_up()
            return
        self._look_later()


def bytes_waiting(transport: asyncio.Transport) -> int:
    """How many bytes the peer has not acknowledged: in our buffer and in the kernel's."""
    count = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    # A socket that was closed in this instant has nothing left that anybody could take.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        unsent = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        count += struct.unpack("i", unsent)[0]
    return count
