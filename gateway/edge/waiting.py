"""Who waits for the notary, since when, and what a notary that says nothing means.

    slow      somebody waits, or a question of ours has been open, for `slow_seconds`:
              new requests are refused at once, /readyz says notary_slow
    patience  whoever has waited for `patience_seconds` is let go without an answer; the receipt
              is made all the same once the notary goes on
    again     the answer comes: nobody waits any more, requests are taken again

Nothing here needs a timer per request: a wait is an entry in a dictionary, and once a second
somebody looks at the oldest.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.errors import NotaryUnavailable
from gateway.notary.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.notary.interface import Notary
    from gateway.telemetry.edge import Snapshot

SLOW: Final = "notary_slow"
SEALS_SLOW: Final = "seals_slow"
_QUESTION: Final = "checkpoint"
_REMEMBER_SECONDS: Final = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitLimits:
    """When a notary is slow and when whoever waits is let go, in seconds.

    `late_seconds` is what a receipt may take before `degraded` says so for half a minute.
    """

    slow_seconds: float = 5.0
    patience_seconds: float = 30.0
    late_seconds: float = 1.0
    look_seconds: float = 1.0


def _tell_nobody(_event: str, **_fields: object) -> None:
    """Write no event."""


@dataclass(slots=True)
class _State:
    """`reason` is why nothing is taken, "" while requests are; `degraded` what is not well."""

    reason: str = ""
    degraded: str = ""
    late_until: float = field(default=float("-inf"))


class NotaryWaits:
    """Every wait for one notary in this process.  Without `start` nobody looks at them."""

    def __init__(
        self,
        notary: Notary,
        limits: WaitLimits | None = None,
        *,
        clock: Clock | None = None,
        emit: Callable[..., None] = _tell_nobody,
    ) -> None:
        self._notary = notary
        self._limits = limits or WaitLimits()
        self._clock = clock or Clock()
        self._now = self._clock.monotonic
        self._emit = emit
        self._since: dict[asyncio.Task[Any] | None, float] = {}
        self._let_go: set[asyncio.Task[Any] | None] = set()
        self._slowest = 0.0
        self._state = _State()
        self._question: asyncio.Task[None] | None = None
        self._asked_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    @property
    def reason(self) -> str:
        """A stable code for why no request is taken; "" while they are."""
        return self._state.reason

    @property
    def degraded(self) -> str:
        """A stable code while receipts come late, "" otherwise."""
        return self._state.degraded

    @property
    def oldest(self) -> float:
        """How many seconds the longest wait has lasted, 0 without one."""
        for since in self._since.values():
            return self._now() - since
        return 0.0

    def snapshot(self) -> Snapshot:
        """Return what metrics show of the waits."""
        return {"attested_seal_waiting_seconds": [[[], self.oldest]]}

    async def wait(self, answer: Awaitable[T]) -> T:
        """Wait for the notary; raises `NotaryUnavailable` if that takes longer than it may.

        What was sent to the notary stays sent: only whoever waits is let go.
        """
        task = asyncio.current_task()
        self._since[task] = began = self._now()
        try:
            return await answer
        except asyncio.CancelledError:
            # Cancelled by somebody else as well: then that is what happened.
            if task is not None and task in self._let_go and not task.uncancel():
                raise NotaryUnavailable("the notary does not answer in time") from None
            raise
        finally:
            del self._since[task]
            if self._let_go:
                self._let_go.discard(task)
            waited = self._now() - began
            if waited > self._slowest:  # noqa: PLR1730 - twice as fast as max(), on every request
                self._slowest = waited

    def start(self) -> None:
        """Look at the waits from now on, until `close`."""
        self._looking = asyncio.get_running_loop().create_task(self._look_again())

    async def close(self) -> None:
        """Look no more; whoever waits goes on waiting."""
        for task in (self._looking, self._question):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def look(self) -> None:
        """Judge the notary by the longest wait, and let go of whom it made wait too long."""
        now, state = self._now(), self._state
        longest = max(self.oldest, self._open_question(now))
        self._say(SLOW if longest > self._limits.slow_seconds else "", int(longest))
        if max(longest, self._slowest) > self._limits.late_seconds:
            state.late_until = now + _REMEMBER_SECONDS
        self._slowest = 0.0
        state.degraded = SEALS_SLOW if now < state.late_until else ""
        for task, since in tuple(self._since.items()):
            if now - since <= self._limits.patience_seconds:
                break  # the others came later
            if task is not None and task not in self._let_go:
                self._let_go.add(task)
                task.cancel()

    def _say(self, reason: str, seconds: int) -> None:
        if reason == self._state.reason:
            return
        self._state.reason = reason
        if reason:
            self._emit("notary.slow", seconds=seconds)
        else:
            self._emit("notary.answers")

    def _open_question(self, now: float) -> float:
        """Have a question open at most times; return for how long the present one has been."""
        if self._question is not None and not self._question.done():
            return now - self._asked_at
        self._asked_at = now
        self._question = asyncio.get_running_loop().create_task(self._ask())
        return 0.0

    async def _ask(self) -> None:
        # Any answer will do, a refusal included: what matters is that there is one.
        with contextlib.suppress(Exception):
            await self._notary.read_log(_QUESTION)

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(self._limits.look_seconds)
            self.look()
