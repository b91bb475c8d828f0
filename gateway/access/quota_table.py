"""What callers have used, in memory that all workers of one gateway map.

    page 0      clock mark (i64), number of changes of budgets (i64), divisor (i64), then nothing
    page 1      one byte a set: whether it ever held a budget
    from page 2 4096 sets of 16 records of 64 bytes: sub, two full times, tokens spent, day

A caller's set follows from its digest and a divisor drawn at random for this table, so that who
may choose names cannot choose them for one set.  A record holds the whole digest: two callers
never share one.  A set is read and written under a lock on one byte of the descriptor, which the
kernel releases when a worker dies (fcntl(2)).  Where a set is full, the record goes whose loss
changes least: never one that holds a budget.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import sys
import weakref
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attestation.encoding.digest import Digest

FOREVER: Final = -1
"""The day of a budget that is for all time."""

_PAGE: Final = 4096
_SETS: Final = 4096
_WAYS: Final = 16
_RECORD: Final = Struct("<32sqqqq")
_SET_BYTES: Final = _WAYS * _RECORD.size
_START: Final = _PAGE + _SETS
_BYTES: Final = _START + _SETS * _SET_BYTES
_NOBODY: Final = bytes(32)
_CLOCK, _CHANGES, _DIVISOR = 0, 1, 2
_HEADER_BYTES: Final = 24


@dataclass(slots=True, kw_only=True)
class Usage:
    """What one caller has used.

    `requests_full` and `tokens_full` are when its buckets are full again, in nanoseconds of the
    monotonic clock; `spent` is the tokens of its budget that are gone, in the day `day` (days
    since 1970, UTC), or `FOREVER`.
    """

    requests_full: int = 0
    tokens_full: int = 0
    spent: int = 0
    day: int = FOREVER


def create_quota_table() -> int:
    """Return a descriptor of an empty table; pages nobody touches cost nothing."""
    descriptor = os.memfd_create("quotas", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _BYTES)
    os.pwrite(descriptor, draw_divisor().to_bytes(8, sys.byteorder), 8 * _DIVISOR)
    return descriptor


def draw_divisor() -> int:
    """Return an odd number of 62 bits whose remainders of digests nobody can foretell."""
    return secrets.randbits(62) | 1 << 61 | 1


class QuotaTable:
    """The table as one process sees it.  The descriptor stays the caller's to close."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        weakref.finalize(self, os.close, self._descriptor)
        self._memory = mmap.mmap(descriptor, _BYTES)
        self._header = memoryview(self._memory)[:_HEADER_BYTES].cast("q")
        self._divisor = self._header[_DIVISOR]

    @classmethod
    def alone(cls) -> Self:
        """Return an empty table that no other process sees."""
        descriptor = create_quota_table()
        try:
            return cls(descriptor)
        finally:
            os.close(descriptor)

    # -- header ----------------------------------------------------------------------------

    @property
    def changes(self) -> int:
        """A number that is another one after every change of a budget."""
        return self._header[_CHANGES]

    def latest(self, seconds: int) -> int:
        """Return the latest Unix second that any worker has seen: time does not go back."""
        mark = self._header[_CLOCK]
        if seconds <= mark:
            return mark
        self._header[_CLOCK] = seconds
        return seconds

    # -- records ---------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Forget all records and draw another divisor; for a table that nobody shares yet."""
        self._memory[_PAGE:] = bytes(_BYTES - _PAGE)
        self._divisor = self._header[_DIVISOR] = draw_divisor()

    def set_of(self, sub: Digest) -> int:
        """Return the number of the caller's set; `sub` is a SHA-256, so no two are near."""
        return int.from_bytes(sub.value, "big") % self._divisor % _SETS

    def lock(self, sub: Digest) -> None:
        """Keep the other workers from this caller's set, for microseconds, until `unlock`."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, self.set_of(sub))

    def unlock(self, sub: Digest) -> None:
        """Let the other workers go on."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self.set_of(sub))

    def read(self, sub: Digest) -> Usage:
        """Return what the caller has used; nothing, if there is no record of it."""
        at = self._find(sub)
        if at is None:
            return Usage()
        _, requests_full, tokens_full, spent, day = _RECORD.unpack_from(self._memory, at)
        return Usage(requests_full=requests_full, tokens_full=tokens_full, spent=spent, day=day)

    def write(self, sub: Digest, usage: Usage, today: int) -> bool:
        """Keep what the caller has used; false if that would push out somebody's budget.

        To be called between `lock` and `unlock`.
        """
        at = self._find(sub)
        if at is None:
            at = self._make_room(sub, today)
        if at is None:
            return False
        fields = (usage.requests_full, usage.tokens_full, usage.spent, usage.day)
        _RECORD.pack_into(self._memory, at, sub.value, *fields)
        return True

    def budget_changed(self, sub: Digest) -> None:
        """Note that the budget of this caller, just written, is to be kept on disk."""
        self._memory[_PAGE + self.set_of(sub)] = 1
        self._header[_CHANGES] += 1

    def budgets(self, today: int) -> Iterator[tuple[bytes, Usage]]:
        """Yield every digest with a budget of which something is spent, those of old days not."""
        flags = self._memory[_PAGE : _PAGE + _SETS]
        for place in (index for index, flag in enumerate(flags) if flag):
            start = _START + place * _SET_BYTES
            records = _RECORD.iter_unpack(self._memory[start : start + _SET_BYTES])
            for sub, _, _, spent, day in records:
                if _counts(spent, day, today):
                    yield sub, Usage(spent=spent, day=day)

    def _find(self, sub: Digest) -> int | None:
        start = _START + self.set_of(sub) * _SET_BYTES
        at = self._memory.find(sub.value, start, start + _SET_BYTES)
        while at >= 0 and (at - start) % _RECORD.size:
            at = self._memory.find(sub.value, at + 1, start + _SET_BYTES)
        return at if at >= 0 else None

    def _make_room(self, sub: Digest, today: int) -> int | None:
        """An empty record, or the one that is full again soonest of those without a budget."""
        start = _START + self.set_of(sub) * _SET_BYTES
        best, soonest = None, 0
        for at in range(start, start + _SET_BYTES, _RECORD.size):
            held, requests_full, tokens_full, spent, day = _RECORD.unpack_from(self._memory, at)
            if held == _NOBODY:
                return at
            full = max(requests_full, tokens_full)
            if not _counts(spent, day, today) and (best is None or full < soonest):
                best, soonest = at, full
        return best


def _counts(spent: int, day: int, today: int) -> bool:
    return spent > 0 and day in (FOREVER, today)
