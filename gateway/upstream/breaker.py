"""What is known of an engine's health, and whether a request may go to it.

    up ──K failures in a row, or one connect timeout──► open ──cooldown──► half open
     ▲                                                    ▲                    │
     └──────── an answer, or a good health check ─────────┴── a failure ───────┘

While an engine is half open, one request at a time tries it.  Time is a parameter throughout:
steady seconds.

No connection and a bad health check speak for themselves.  Everything else could be the doing of
the request that met it: a prompt that takes long to read, or one that brings the engine down.  So
such failures open the breaker only if they are not all of one caller's requests; those of one
caller alone only send that caller elsewhere, for a cooldown, if there is an elsewhere.

Two rows are counted.  The beginning of an answer ends the row of requests that got none; only a
whole answer ends the row of those whose answer broke off.
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

BROKEN_STREAM: Final = "broken_stream"
"""The reason of an engine whose streams end without their terminal event."""

_SERVER_ERROR: Final = 500
_GIVEN_UP_STATUSES: Final = frozenset({502, 503, 504})
_UNREACHABLE: Final = frozenset(
    {str(UpstreamFailure.CONNECT), str(UpstreamFailure.TIMEOUT_CONNECT), UNHEALTHY}
)
"""What no request has a part in."""


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


@dataclass(slots=True)
class _Row:
    """Failures in a row.  `caller` is the first one's, None if no caller had a part in it;
    `shared` says that they are not all that one caller's.
    """

    count: int = 0
    caller: bytes | None = None
    shared: bool = False

    def add(self, caller: bytes | None) -> None:
        self.shared = self.shared or caller is None or (self.count > 0 and caller != self.caller)
        if not self.count:
            self.caller = caller
        self.count += 1


class Breaker:
    """The breaker of one engine in one process.

    `clear` is true as long as nothing speaks against the engine, so that the usual request asks
    nothing else; `reason` is what the last failure was, "" without one.  A `caller` is whatever
    tells callers apart.
    """

    __slots__ = (
        "_avoided_by", "_avoided_until", "_broken", "_rules", "_tell", "_trial_ends", "_tried_by",
        "_tried_until", "_unanswered", "_until", "clear", "reason", "state",
    )  # fmt: skip

    def __init__(
        self, rules: BreakerRules | None = None, tell: Callable[[EngineState], None] = _ignore
    ) -> None:
        """`tell` is called with every new state."""
        self._rules = rules or BreakerRules()
        self._tell = tell
        self._unanswered = _Row()
        self._broken = _Row()
        self._until = 0.0
        self._trial_ends = 0.0
        self._avoided_by: bytes | None = None
        self._avoided_until = 0.0
        self._tried_by: bytes | None = None
        self._tried_until = 0.0
        self.clear = True
        self.reason = ""
        self.state = EngineState.UP

    def admits(self, now: float, caller: bytes | None = None) -> bool:
        """Whether a request could go to the engine now.  Changes nothing.

        A caller whose trial failed leaves the next one to others: it must not be able to keep an
        engine from them by being the first each time.
        """
        if self.state is EngineState.UP:
            return True
        if caller is not None and caller == self._tried_by and now < self._tried_until:
            return False
        return now >= (self._until if self.state is EngineState.OPEN else self._trial_ends)

    def avoided(self, now: float, caller: bytes) -> bool:
        """Whether the engine broke this caller's requests alone, so that it goes elsewhere."""
        return caller == self._avoided_by and now < self._avoided_until

    def claim(self, now: float, caller: bytes | None = None) -> bool:
        """Take the right to send one request; while half open nobody else gets it meanwhile.

        It comes back with an answer, a failure or `abandon`, and after another cooldown by
        itself: a trial that takes long must not keep an engine out of use.
        """
        if not self.admits(now, caller):
            return False
        if self.state is not EngineState.UP:
            self._enter(EngineState.HALF_OPEN)
            self._trial_ends = now + self._rules.cooldown
        return True

    def abandon(self) -> None:
        """Give the trial back: its caller left before the engine showed anything."""
        self._trial_ends = 0.0

    def answered(self, status: int, now: float, caller: bytes | None = None) -> None:
        """Note the head of an answer to a request."""
        if self._rules.by_status and status in _GIVEN_UP_STATUSES:
            self.failed(BAD_STATUS, now, caller)
        elif status >= _SERVER_ERROR and self.reason == UNHEALTHY:
            # It says what the health check said: an engine that calls itself dead answers so.
            return
        elif not self.clear:
            self._unanswered = _Row()
            if not self._broken.count:
                self._recover()

    def completed(self) -> None:
        """Note that an answer was whole."""
        self._unanswered, self._broken = _Row(), _Row()
        self._recover()

    def failed(self, reason: str, now: float, caller: bytes | None = None) -> None:
        """Note that a request got no answer, or a health check no good one.

        `reason` is an `UpstreamFailure`, `BAD_STATUS` or `UNHEALTHY`.
        """
        self._note(self._unanswered, reason, now, None if reason in _UNREACHABLE else caller)

    def broke(self, reason: str, now: float, caller: bytes | None = None) -> None:
        """Note that an answer broke off: an `UpstreamFailure` or `BROKEN_STREAM`."""
        self._note(self._broken, reason, now, caller)

    def checked(self) -> None:
        """Note a good health check.

        It brings back an engine that was out of reach.  One that broke requests while its health
        check went well is believed only when a request shows it.
        """
        if self.state is EngineState.UP:
            return
        if self.reason in _UNREACHABLE:
            self._unanswered = _Row()
            self._recover()
        elif self.state is EngineState.OPEN:
            self._until = 0.0

    def seconds_left(self, now: float) -> float:
        """How long nothing goes to the engine, as far as that is known."""
        if self.admits(now):
            return 0.0
        end = self._until if self.state is EngineState.OPEN else self._trial_ends
        return self._rules.cooldown if math.isinf(end) else end - now

    def _note(self, row: _Row, reason: str, now: float, caller: bytes | None) -> None:
        self.clear = False
        waits = self._rules.watched and reason in _UNREACHABLE
        if self.state is EngineState.OPEN:
            # What began before it was opened says nothing new, and must not keep it open; but an
            # engine that is gone altogether comes back by its health, so that nobody waits for it.
            if waits:
                self.reason, self._until = reason, math.inf
            return
        self.reason = reason
        row.add(caller)
        if self.state is EngineState.HALF_OPEN:
            self._tried_by, self._tried_until = caller, now + 2 * self._rules.cooldown
        elif reason != UpstreamFailure.TIMEOUT_CONNECT:
            if row.count < self._rules.failures:
                return
            if not row.shared:
                self._avoided_by, self._avoided_until = row.caller, now + self._rules.cooldown
                return
        self._until = math.inf if waits else now + self._rules.cooldown
        self._enter(EngineState.OPEN)

    def _recover(self) -> None:
        # What broke off stays counted until an answer is whole, whatever the engine's health says.
        self.clear = not self._broken.count
        self.reason = "" if self.clear else BROKEN_STREAM
        self._avoided_by = self._tried_by = None
        self._enter(EngineState.UP)

    def _enter(self, state: EngineState) -> None:
        if state is not self.state:
            self.state = state
            self._tell(state)
