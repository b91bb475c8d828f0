"""Where two accounts of the same measurements part: a log and a register, or two logs.

A register is a hash chain.  It says whether a log is all of it, and only in special cases what
is wrong with one that is not; this module finds those cases and claims nothing beyond them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from attestation.tdx.events import DIGEST_BYTES, extend

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from attestation.tdx.events import Event

# Looking for one wrong event costs n * n / 2 hashes for each of three guesses.
MAX_GUESSED = 512

T = TypeVar("T")


class Cause(StrEnum):
    """What is known about a log that does not replay to a register's value."""

    UNSTATED = "unstated"
    """The log does not state every digest, so there is nothing to replay."""
    EARLIER = "earlier"
    """The value is the one after event `at`: the later events are not in it."""
    OMITTED = "omitted"
    """The log without event `at` replays to the value."""
    REPEATED = "repeated"
    """The log with event `at` twice in a row replays to the value."""
    SWAPPED = "swapped"
    """The log with event `at` and the next one exchanged replays to the value."""
    UNKNOWN = "unknown"
    """None of these: events differ, are missing, or came after the end of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Why the `events` of one register do not replay to a value.

    `at` counts the register's events from 1; 0 where no event can be named, and for a value
    of all zero.
    """

    cause: Cause
    events: int
    at: int = 0


def find_mismatch(events: Sequence[Event], value: bytes) -> Mismatch | None:
    """Return why these events of one register do not lead to `value` (48 bytes), or None.

    Takes time linear in the number of events: it knows UNSTATED, EARLIER and UNKNOWN.
    """
    count = len(events)
    if not all(event.digest for event in events):
        first = next(i for i, event in enumerate(events, 1) if not event.digest)
        return Mismatch(cause=Cause.UNSTATED, events=count, at=first)
    values = _values([event.digest for event in events])
    if values[-1] == value:
        return None
    if value in values:
        return Mismatch(cause=Cause.EARLIER, events=count, at=values.index(value))
    return Mismatch(cause=Cause.UNKNOWN, events=count)


def guess_mismatch(events: Sequence[Event], value: bytes) -> Mismatch | None:
    """Like `find_mismatch`, trying as well whether one single wrong event explains the value.

    Takes time quadratic in the number of events, and is not tried on more than `MAX_GUESSED`.
    """
    found = find_mismatch(events, value)
    if found is None or found.cause is not Cause.UNKNOWN or len(events) > MAX_GUESSED:
        return found
    digests = [event.digest for event in events]
    values = _values(digests)
    for index in range(len(digests)):
        here, rest = digests[index], digests[index + 1 :]
        guesses = {
            Cause.OMITTED: rest,
            Cause.REPEATED: [here, here, *rest],
            Cause.SWAPPED: [*rest[:1], here, *rest[1:]],
        }
        for cause, guess in guesses.items():
            if _fold(values[index], guess) == value:
                return Mismatch(cause=cause, events=len(events), at=index + 1)
    return found


class Change(StrEnum):
    """How a list of events differs from the one it is compared with, at the first difference."""

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"
    REORDERED = "reordered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Generic[T]):
    """The first place, counted from 1, where two lists differ, and what stands there in each."""

    change: Change
    place: int
    expected: T | None
    seen: T | None

    @property
    def item(self) -> T:
        """What is seen there, or what is expected where nothing is seen."""
        return cast("T", self.expected if self.seen is None else self.seen)


def first_difference(
    expected: Sequence[T], seen: Sequence[T], key: Callable[[T], Hashable]
) -> Difference[T] | None:
    """Return where `seen` first differs from `expected` by `key`, or None if it does not.

    Of the items from there on: EXTRA means that `seen` has its item more often than `expected`,
    MISSING the reverse for the expected item, CHANGED both, REORDERED neither.
    """
    common = min(len(expected), len(seen))
    start = next((i for i in range(common) if key(expected[i]) != key(seen[i])), common)
    wanted, got = expected[start:], seen[start:]
    if not wanted and not got:
        return None
    surplus = Counter(map(key, got))
    surplus.subtract(Counter(map(key, wanted)))
    extra = bool(got) and surplus[key(got[0])] > 0
    missing = bool(wanted) and surplus[key(wanted[0])] < 0
    changes = {
        (True, True): Change.CHANGED,
        (True, False): Change.EXTRA,
        (False, True): Change.MISSING,
        (False, False): Change.REORDERED,
    }
    return Difference(
        change=changes[extra, missing],
        place=start + 1,
        expected=wanted[0] if wanted else None,
        seen=got[0] if got else None,
    )


def _values(digests: Sequence[bytes]) -> list[bytes]:
    """Return the register's value before the first digest and after each."""
    values = [bytes(DIGEST_BYTES)]
    for digest in digests:
        values.append(extend(values[-1], digest))
    return values


def _fold(value: bytes, digests: Sequence[bytes]) -> bytes:
    for digest in digests:
        value = extend(value, digest)
    return value
