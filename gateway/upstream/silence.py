"""How long an engine may say nothing, and how long all of its answer may take.

One timer, moved lazily: setting one for every read would cost more than the read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import UpstreamFailure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Silence:
    """Calls `late` with the kind of timeout once it is due.

    `heard_at` is an instant of the loop's clock, to be moved whenever the engine said something.
    While it is `suspended` only the whole answer has a time; nothing is late unless `watching`.
    """

    __slots__ = (
        "_kind", "_late", "_loop", "_seconds", "_timer", "_timer_at", "_total", "heard_at",
        "suspended", "watching",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, late: Callable[[UpstreamFailure], None]
    ) -> None:
        self._loop = loop
        self._late = late
        self._kind = UpstreamFailure.TIMEOUT_FIRST_BYTE
        self._seconds = 0.0
        self._total = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.heard_at = 0.0
        self.suspended = False
        self.watching = False

    def begin(self, kind: UpstreamFailure, seconds: float, total: float) -> None:
        """Watch from now on, until the instant `total` at the latest."""
        self._total = total
        self.suspended = False
        self.watching = True
        self.allow(kind, seconds)

    def allow(self, kind: UpstreamFailure, seconds: float) -> None:
        """Allow `seconds` without a word, from now on and after each."""
        self._kind = kind
        self._seconds = seconds
        self.heard_at = self._loop.time()
        due = self._due()
        # One that is set for an earlier instant finds then what there is to do.
        if self._timer is None or due < self._timer_at:
            self._arm(due)

    def stop(self) -> None:
        """Watch no more."""
        self.watching = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> float:
        return self._total if self.suspended else min(self.heard_at + self._seconds, self._total)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self.watching:
            return
        due = self._due()
        if self._loop.time() < due:
            self._arm(due)
            return
        self._late(UpstreamFailure.TIMEOUT_TOTAL if due == self._total else self._kind)
