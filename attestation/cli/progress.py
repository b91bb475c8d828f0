"""How far a long run is, on stderr, and nothing at all for a short one."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 30.0
_REDRAW_SECONDS = 0.2


class Counted:
    """Counts towards a known total, from any thread, and says so once two seconds have passed.

    `spell` writes a number for people.  A terminal gets one line that is drawn anew, a file a
    line every half a minute.
    """

    def __init__(
        self,
        what: str,
        total: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        spell: Callable[[float], str],
    ) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._spell = spell
        self._lock = threading.Lock()
        self._began = clock()
        self._due = self._began + _QUIET_SECONDS
        self._terminal = sys.stderr.isatty()
        self._done = 0
        self._drawn = False

    def add(self, count: int) -> None:
        """Note `count` more."""
        with self._lock:
            self._done += count
            now = self._clock()
            if now < self._due:
                return
            self._due = now + (_REDRAW_SECONDS if self._terminal else _LINE_SECONDS)
            self._say(now)

    def close(self) -> None:
        """End the line of a terminal."""
        if self._terminal and self._drawn:
            sys.stderr.write("\n")

    def _say(self, now: float) -> None:
        # Not before two seconds have passed, so that there is a speed to speak of.
        done, total = self._spell(self._done), self._spell(self._total)
        speed = self._spell(self._done / (now - self._began))
        text = f"{self._what} {done} of {total}, {speed}/s"
        sys.stderr.write(f"\r{text:<70}" if self._terminal else text + "\n")
        sys.stderr.flush()
        self._drawn = True


class Bytes(Counted):
    """Counts bytes."""

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, total, clock, spell=readable)


def readable(count: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
