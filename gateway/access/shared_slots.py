"""Running requests per key, counted over all workers of one gateway.

Every worker has a column of counters in memory that all of them map, and writes to no other, so
that no lock is needed.  A key's bucket follows from its digest and a divisor drawn at random, so
that who may choose names cannot choose somebody's bucket; a sum over the columns is what the key
has running.

Two things are accepted.  Workers that look in the same instant may each take the last slot: a
key may exceed its grant by fewer requests than there are workers.  Two keys that share one of
four million buckets share its count.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import TYPE_CHECKING, Final

from gateway.access.quota_table import draw_divisor
from gateway.access.slots import Slots

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from gateway.access.principal import Principal

_BUCKETS: Final = 1 << 22
_COUNTER_BYTES: Final = 2
_REMEMBERED: Final = 4096
_COLUMN_BYTES: Final = _BUCKETS * _COUNTER_BYTES
_MOST: Final = (1 << 16) - 1
_DIVISOR_BYTES: Final = 8  # behind the columns


def create_slots(workers: int) -> int:
    """Return a descriptor of memory for that many columns; pages nobody touches cost nothing."""
    descriptor = os.memfd_create("slots", os.MFD_CLOEXEC)
    divisor = draw_divisor().to_bytes(_DIVISOR_BYTES, sys.byteorder)
    os.pwrite(descriptor, divisor, workers * _COLUMN_BYTES)
    return descriptor


def clear_column(descriptor: int, index: int, workers: int) -> None:
    """Give back what a worker that is gone still held."""
    with mmap.mmap(descriptor, workers * _COLUMN_BYTES) as memory:
        # Freed pages of a shared mapping read as zeroes again (madvise(2), MADV_REMOVE).
        memory.madvise(mmap.MADV_REMOVE, index * _COLUMN_BYTES, _COLUMN_BYTES)


class SharedSlots(Slots):
    """The slots as one worker sees them; it writes column `index`."""

    def __init__(self, descriptor: int, index: int, workers: int) -> None:
        super().__init__()
        self._memory = mmap.mmap(descriptor, workers * _COLUMN_BYTES)
        self._counters = memoryview(self._memory).cast("H")
        divisor = os.pread(descriptor, _DIVISOR_BYTES, workers * _COLUMN_BYTES)
        self._divisor = int.from_bytes(divisor, sys.byteorder)
        self._index = index
        self._buckets: dict[bytes, int] = {}
        self._workers = workers

    def acquire(self, principal: Principal) -> bool:
        """Take a slot, or return False if the grant allows no further request at once."""
        bucket = self._bucket(principal.sub)
        if self._running_in(bucket) >= min(principal.grant.concurrency, _MOST):
            return False
        self._counters[self._index * _BUCKETS + bucket] += 1
        return True

    def release(self, principal: Principal) -> None:
        """Give back a slot that `acquire` granted."""
        place = self._index * _BUCKETS + self._bucket(principal.sub)
        if self._counters[place] == 0:
            raise ValueError("a slot was released that nobody holds")
        self._counters[place] -= 1

    def running(self, sub: Digest) -> int:
        """How many requests this key has running, in all workers."""
        return self._running_in(self._bucket(sub))

    def _running_in(self, bucket: int) -> int:
        total = 0
        for place in range(bucket, len(self._counters), _BUCKETS):
            total += self._counters[place]
        return total

    def _bucket(self, sub: Digest) -> int:
        bucket = self._buckets.get(sub.value)
        if bucket is None:
            if len(self._buckets) >= _REMEMBERED:
                self._buckets.clear()
            bucket = int.from_bytes(sub.value, "big") % self._divisor % _BUCKETS
            self._buckets[sub.value] = bucket
        return bucket
