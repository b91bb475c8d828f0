"""What is known of an engine's health, and whether a request may go to it.

    up ──K failures in a row, or one connect timeout──► open ──cooldown──► half open
     ▲                                                    ▲                    │
     └──────── an answer, or a good health check ─────────┴── a failure ───────┘

While an engine is half open, one request at a time tries it: a trial, which has a number.  Time is
a parameter throughout: steady seconds.

No connection and a bad health check speak for themselves.  Everything else could be the doing of
the request that met it: a prompt that takes long to read, or one that brings the engine down.  So
such failures open the breaker only if they are not all of one caller's requests; those of one
caller alone only send that caller elsewhere, for a cooldown, if there is an elsewhere.

Two rows of requests are counted.  The beginning of an answer ends the row of those that got none;
only a whole answer ends the row of those whose answer broke off.  Bad health checks count along
with the first row.  A good one ends their own row, and what requests met stays counted: it asks
for little, and a request may fail where it does well.

While an engine is not up, only trials and health checks say anything of it.  A request from before
is none: its failure is older news than what opened the breaker, and so is its answer, which an
engine that takes nothing new any more may well bring to its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamFailure
from gateway.upstream.row import Row

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


class Breaker:
    """The breaker of one engine in one process.

    `clear` is true as long as nothing speaks against the engine, so that the usual request asks
    nothing else; `reason` is what the last failure was, "" without one.  `trial` is the number of
    the trial that was claimed last, 0 if none runs: a request that claimed one names it with
    everything it tells.  A `caller` is whatever tells callers apart.
    """

    __slots__ = (
        "_avoided_by", "_avoided_until", "_broken", "_first_trial", "_kept_out", "_left", "_rules",
        "_tell", "_trial_ends", "_trials", "_unanswered", "_until", "_unwell", "clear", "reason",
        "state", "trial",
    )  # fmt: skip

    def __init__(
        self, rules: BreakerRules | None = None, tell: Callable[[EngineState], None] = _ignore
    ) -> None:
        """`tell` is called with every new state."""
        self._rules = rules or BreakerRules()
        self._tell = tell
        self._unanswered = Row()
        self._broken = Row()
        self._unwell = 0
        self._until = 0.0
        self._trials = 0
        self._first_trial = 0
        self._trial_ends = 0.0
        self._avoided_by: bytes | None = None
        self._avoided_until = 0.0
        # Of callers with trials only, and empty again when the engine is up.
        self._kept_out: dict[bytes, float] = {}
        self._left: set[bytes] = set()
        self.clear = True
        self.reason = ""
        self.trial = 0
        self.state = EngineState.UP

    def admits(self, now: float, caller: bytes | None = None) -> bool:
        """Whether a request could go to the engine now.  Changes nothing.

        A caller whose trial failed, or that left two in a row, leaves the next ones to others for
        a while: it must not be able to keep an engine from them by being the first each time.
        """
        if self.state is EngineState.UP:
            return True
        if caller is not None and now < self._kept_out.get(caller, now):
            return False
        return now >= (self._until if self.state is EngineState.OPEN else self._trial_ends)

    def avoided(self, now: float, caller: bytes) -> bool:
        """Whether the engine broke this caller's requests alone, so that it goes elsewhere."""
        return caller == self._avoided_by and now < self._avoided_until

    def claim(self, now: float, caller: bytes | None = None) -> bool:
        """Take the right to send one request; while half open nobody else gets it meanwhile.

        If that makes the request a trial, its number is `trial` now.  The right comes back with
        an answer, a failure or `abandon`, and after another cooldown by itself: a trial that takes
        long must not keep an engine out of use, and still says something when it ends.
        """
        if not self.admits(now, caller):
            return False
        if self.state is not EngineState.UP:
            self._trials += 1
            if self.state is EngineState.OPEN:
                self._first_trial = self._trials
            self.trial = self._trials
            self._trial_ends = now + self._rules.cooldown
            self._enter(EngineState.HALF_OPEN)
        return True

    def abandon(self, trial: int, now: float, caller: bytes | None = None) -> None:
        """Give a trial back that ended before the engine showed anything, everybody may have it.

        `caller` is who left, None if nobody did.  Whoever leaves two in a row gets no other one
        for a cooldown.
        """
        if not self._is_trial(trial):
            return
        if trial == self.trial:
            self.trial, self._trial_ends = 0, 0.0
        if caller in self._left:
            self._kept_out[caller] = now + self._rules.cooldown
        elif caller is not None:
            self._left.add(caller)

    def answered(
        self, status: int, now: float, caller: bytes | None = None, trial: int = 0
    ) -> None:
        """Note the head of an answer to a request."""
        if self._rules.by_status and status in _GIVEN_UP_STATUSES:
            self.failed(BAD_STATUS, now, caller, trial)
        elif status >= _SERVER_ERROR and self.reason == UNHEALTHY:
            # It says what the health check said: an engine that calls itself dead answers so.
            return
        elif not self.clear and self._is_heard(trial):
            self._unanswered, self._unwell = Row(), 0
            self._look_at_rows()
            if not self._broken.count:
                self._recover()

    def completed(self, trial: int = 0) -> None:
        """Note that an answer was whole."""
        if self._is_heard(trial):
            self._unanswered, self._broken = Row(), Row()
            self._recover()

    def failed(self, reason: str, now: float, caller: bytes | None = None, trial: int = 0) -> None:
        """Note that a request got no answer; `reason` is an `UpstreamFailure` or `BAD_STATUS`."""
        unreachable = reason in _UNREACHABLE
        if self._is_heard(trial):
            self._note(self._unanswered, reason, now, None if unreachable else caller)
        elif unreachable and self.state is EngineState.OPEN:
            self._wait_for_health(reason)

    def broke(self, reason: str, now: float, caller: bytes | None = None, trial: int = 0) -> None:
        """Note that an answer broke off: an `UpstreamFailure` or `BROKEN_STREAM`."""
        if self._is_heard(trial):
            self._note(self._broken, reason, now, caller)

    def ailing(self, reason: str, now: float) -> None:
        """Note a bad health check: an `UpstreamFailure` without a connection, or `UNHEALTHY`."""
        if self.state is EngineState.OPEN:
            self._wait_for_health(reason)
            return
        self.clear, self.reason = False, reason
        self._unwell += 1
        if (
            self.state is EngineState.HALF_OPEN
            or reason == UpstreamFailure.TIMEOUT_CONNECT
            or self._unanswered.count + self._unwell >= self._rules.failures
        ):
            self._open(reason, now)

    def checked(self) -> None:
        """Note a good health check.

        It brings back an engine that was out of reach.  One that broke requests while its health
        check went well is believed only when a request shows it.
        """
        if self.state is EngineState.UP:
            if self._unwell:
                self._unwell = 0
                self._look_at_rows()
        elif self.reason in _UNREACHABLE:
            self._unanswered = Row()
            self._recover()
        elif self.state is EngineState.OPEN:
            self._until = 0.0

    def seconds_left(self, now: float) -> float:
        """How long nothing goes to the engine, as far as that is known."""
        if self.admits(now):
            return 0.0
        end = self._until if self.state is EngineState.OPEN else self._trial_ends
        return self._rules.cooldown if math.isinf(end) else end - now

    def _is_trial(self, trial: int) -> bool:
        """Whether this is a trial of the present half-open state, which may run no more."""
        return self.state is EngineState.HALF_OPEN and trial >= self._first_trial

    def _is_heard(self, trial: int) -> bool:
        return self.state is EngineState.UP or self._is_trial(trial)

    def _note(self, row: Row, reason: str, now: float, caller: bytes | None) -> None:
        """Count a failure of a request that is heard."""
        self.clear, self.reason = False, reason
        row.add(reason, caller)
        if self.state is EngineState.HALF_OPEN:
            if caller is not None:
                self._left.discard(caller)
                self._kept_out[caller] = now + 2 * self._rules.cooldown
        elif reason != UpstreamFailure.TIMEOUT_CONNECT:
            unwell = self._unwell if row is self._unanswered else 0
            if row.count + unwell < self._rules.failures:
                return
            if not (row.shared or unwell):
                self._avoided_by, self._avoided_until = row.caller, now + self._rules.cooldown
                return
        self._open(reason, now)

    def _open(self, reason: str, now: float) -> None:
        waits = self._rules.watched and reason in _UNREACHABLE
        self._until = math.inf if waits else now + self._rules.cooldown
        self.trial = 0
        self._enter(EngineState.OPEN)

    def _wait_for_health(self, reason: str) -> None:
        # What comes while it is open must not keep it so; but an engine that is gone altogether
        # comes back by its health where that is watched, so that nobody waits for it.
        if self._rules.watched:
            self.reason, self._until = reason, math.inf

    def _recover(self) -> None:
        self._unwell = self.trial = 0
        self._look_at_rows()
        self._avoided_by = None
        self._kept_out.clear()
        self._left.clear()
        self._enter(EngineState.UP)

    def _look_at_rows(self) -> None:
        # What broke off stays counted until an answer is whole, whatever the engine's health says.
        self.reason = self._unanswered.reason or self._broken.reason
        self.clear = not self.reason

    def _enter(self, state: EngineState) -> None:
        if state is not self.state:
            self.state = state
            self._tell(state)
