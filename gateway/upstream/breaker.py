"""What is known of an engine's health, and whether a request may go to it.

    up ──K failures in a row, or one connect timeout──► open ──cooldown──► half open
     ▲                                                    ▲                    │
     └──────── an answer, or a good health check ─────────┴── a failure ───────┘

While an engine is half open, one request at a time tries it.  Time is a parameter throughout:
steady seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Callable

UNHEALTHY: Final = "unhealthy"
"""The reason of an engine whose health check answers with 5xx, too late, or with nonsense."""

BAD_STATUS: Final = "status"
"""The reason of an engine that answers requests with 502, 503 or 504."""

_GIVEN_UP_STATUSES: Final = frozenset({502, 503, 504})
_UNREACHABLE: Final = frozenset(
    {str(UpstreamFailure.CONNECT), str(UpstreamFailure.TIMEOUT_CONNECT), UNHEALTHY}
)


class EngineState(StrEnum):
    """Where a breaker stands; the words stand in metrics and on /readyz."""

    UP = "up"
    HALF_OPEN = "half_open"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When an engine is left and when it is tried again; times in seconds.

    `watched`: health checks are made, so that only they bring back an engine that accepts no
    connection, and no caller waits for one that does not answer.  `by_status`: 502, 503 and 504
    count as failures, which makes sense where another engine could answer instead.
    """

    failures: int = 3
    cooldown: float = 2.0
    watched: bool = False
    by_status: bool = False


def _ignore(_state: EngineState) -> None:
    """Tell nobody."""


class Breaker:
    """The breaker of one engine in one process.

    `clear` is true as long as nothing speaks against the engine, so that the usual request asks
    nothing else; `reason` is what the last failure was, "" without one.
    """

    __slots__ = ("_count", "_rules", "_tell", "_trial_ends", "_until", "clear", "reason", "state")

    def __init__(
        self, rules: BreakerRules | None = None, tell: Callable[[EngineState], None] = _ignore
    ) -> None:
        """`tell` is called with every new state."""
        self._rules = rules or BreakerRules()
        self._tell = tell
        self._count = 0
        self._until = 0.0
        self._trial_ends = 0.0
        self.clear = True
        self.reason = ""
        self.state = EngineState.UP

    def admits(self, now: float) -> bool:
        """Whether a request could go to the engine now.  Changes nothing."""
        if self.state is EngineState.UP:
            return True
        return now >= (self._until if self.state is EngineState.OPEN else self._trial_ends)

    def claim(self, now: float) -> bool:
        """Take the right to send one request; while half open nobody else gets it meanwhile.

        It comes back with an answer, a failure or `abandon`, and after another cooldown by
        itself: a trial that takes long must not keep an engine out of use.
        """
        if not self.admits(now):
            return False
        if self.state is not EngineState.UP:
            self._enter(EngineState.HALF_OPEN)
            self._trial_ends = now + self._rules.cooldown
        return True

    def abandon(self) -> None:
        """Give the trial back: its caller left before the engine showed anything."""
        self._trial_ends = 0.0

    def answered(self, status: int, now: float) -> None:
        """Note the head of an answer to a request."""
        if self._rules.by_status and status in _GIVEN_UP_STATUSES:
            self.failed(BAD_STATUS, now)
        elif not self.clear:
            self._recover()

    def failed(self, reason: str, now: float) -> None:
        """Note a failure: an `UpstreamFailure`, `BAD_STATUS` or `UNHEALTHY`."""
        self.clear = False
        if self.state is EngineState.OPEN:
            # What began before it was opened says nothing new, and must not keep it open.
            return
        self.reason = reason
        self._count += 1
        hopeless = reason == UpstreamFailure.TIMEOUT_CONNECT
        if hopeless or self._count >= self._rules.failures or self.state is EngineState.HALF_OPEN:
            waits = self._rules.watched and reason in _UNREACHABLE
            self._until = math.inf if waits else now + self._rules.cooldown
            self._enter(EngineState.OPEN)

    def checked(self) -> None:
        """Note a good health check.

        It brings back an engine that was out of reach.  One that broke requests while its health
        check went well is believed only when a request shows it.
        """
        if self.state is EngineState.UP:
            return
        if self.reason in _UNREACHABLE:
            self._recover()
        elif self.state is EngineState.OPEN:
            self._until = 0.0

    def seconds_left(self, now: float) -> float:
        """How long nothing goes to the engine, as far as that is known."""
        if self.admits(now):
            return 0.0
        end = self._until if self.state is EngineState.OPEN else self._trial_ends
        return self._rules.cooldown if math.isinf(end) else end - now

    def _recover(self) -> None:
        self._count = 0
        self.clear = True
        self.reason = ""
        self._enter(EngineState.UP)

    def _enter(self, state: EngineState) -> None:
        if state is not self.state:
            self.state = state
            self._tell(state)
