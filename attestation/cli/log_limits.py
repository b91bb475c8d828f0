"""What keeps one look at a log from lasting for ever: a log may sign any size and go on serving."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from attestation.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from attestation.log import Source

MAX_ENTRIES = 100_000_000
TIMEOUT_SECONDS = 3600.0


def add_limits(add: Callable[..., Any]) -> None:
    """Declare the arguments."""
    add(
        "--max-entries",
        metavar="N",
        type=int,
        default=MAX_ENTRIES,
        help=f"read at most N entries of a log in one look ({MAX_ENTRIES:,}); exit 14 beyond",
    )
    add(
        "--timeout",
        metavar="S",
        type=float,
        default=TIMEOUT_SECONDS,
        help=f"give a log up after S seconds ({TIMEOUT_SECONDS:g}); exit 14",
    )


def require_limits(args: argparse.Namespace) -> None:
    """Raise `UsageError` for limits that limit nothing, or everything."""
    if not 1 <= args.max_entries < 1 << 64:
        raise UsageError(
            "--max-entries is out of bounds", code="max_entries", expected="1 to 2^64 - 1"
        )
    if not 0 < args.timeout <= 1e9:
        raise UsageError(
            "--timeout is out of bounds", code="timeout", expected="up to 1,000,000,000 seconds"
        )


class TimedSource:
    """A `log.Source` that stops answering once its time is over; a read under way may end."""

    __slots__ = ("_clock", "_seconds", "_source", "_until")

    def __init__(
        self, source: Source, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._seconds = seconds
        self._clock = clock
        self._until = clock() + seconds

    def read(self, path: str, *, limit: int) -> bytes | None:
        """Return what the source has; `UnavailableError` (code "log_timeout") when time is over."""
        if self._clock() > self._until:
            raise UnavailableError(
                "the log was not read in time",
                code="log_timeout",
                expected=f"all of it within {self._seconds:g} s",
                hint="nothing was found wrong with what was read; --timeout gives more time",
            )
        return self._source.read(path, limit=limit)
