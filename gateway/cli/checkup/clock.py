"""The guest's clock: nothing that is proved rests on it, and people read the times it writes."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.cli.checkup.finding import Finding, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUBJECT = Subject(id="clock.time", area="clock", title="time of day")
_SYNCHRONISED = Subject(id="clock.ntp", area="clock", title="synchronisation")
_STEADY = Subject(id="clock.steady", area="clock", title="steadiness")
_TIMEX_BYTES = 512
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_ALLOWED_STEP = 0.5
_ALLOWED_AHEAD = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One reading of both clocks, in seconds."""

    wall: float
    steady: float

    @classmethod
    def now(cls) -> Instant:
        """Read the clocks of this machine."""
        return cls(wall=time.time(), steady=time.monotonic())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTime:
    """Something that cannot be later than now: `what`, and when it was made (Unix seconds)."""

    what: str
    at: int


def kernel_state() -> int | None:
    """Return what adjtimex(2) answers when it is only asked, None where it cannot be asked."""
    try:
        asked: Callable[[object], int] = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = asked(ctypes.create_string_buffer(_TIMEX_BYTES))
    return state if state >= 0 else None


def clock_findings(
    began: Instant, ended: Instant, known: tuple[KnownTime, ...], state: int | None
) -> Iterator[Finding]:
    """Compare the time of day with what must be earlier, with itself, and with the kernel's word.

    `began` and `ended` are readings from before and after everything else that was looked at.
    """
    yield _time_of_day(ended, known)
    yield _steadiness(began, ended)
    if state is None:
        yield _SYNCHRONISED.absent("the kernel does not say")
    elif state == _TIME_ERROR:
        yield _SYNCHRONISED.warn(
            "the kernel says that nobody keeps the clock right",
            "run chrony or systemd-timesyncd in the guest; receipts carry this clock's times",
        )
    else:
        yield _SYNCHRONISED.ok("the kernel says that the clock is synchronised")


def _time_of_day(now: Instant, known: tuple[KnownTime, ...]) -> Finding:
    shown = datetime.fromtimestamp(now.wall, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    newest = max(known, key=lambda each: each.at, default=None)
    if newest is None:
        return _SUBJECT.ok(f"{shown}; nothing here to compare it with", unix=int(now.wall))
    if newest.at > now.wall + _ALLOWED_AHEAD:
        then = datetime.fromtimestamp(newest.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return _SUBJECT.warn(
            f"{shown} is before {newest.what} ({then})",
            "set the clock: endorsements look as if not yet in date, receipts as if made earlier",
            unix=int(now.wall),
            newest=newest.at,
        )
    return _SUBJECT.ok(f"{shown}, after {newest.what}", unix=int(now.wall), newest=newest.at)


def _steadiness(began: Instant, ended: Instant) -> Finding:
    passed = ended.steady - began.steady
    step = (ended.wall - began.wall) - passed
    if abs(step) > _ALLOWED_STEP:
        return _STEADY.warn(
            f"the time of day moved by {step:+.1f} s within {passed:.1f} s",
            "something sets the clock in steps: look at the guest's time service",
            step=round(step, 3),
        )
    return _STEADY.ok("the time of day moves with the steady clock", step=round(step, 3))
