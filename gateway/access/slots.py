"""How many requests a key has running, and how many refusals it gets receipts for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from gateway.access.principal import Principal

_MAX_BUCKETS = 10_000


class Slots:
    """Counts running requests per key; `acquire` and `release` come in pairs."""

    def __init__(self) -> None:
        self._running: dict[Digest, int] = {}

    def acquire(self, principal: Principal) -> bool:
        """Take a slot, or return False if the grant allows no further request at once."""
        running = self._running.get(principal.sub, 0)
        if running >= principal.grant.concurrency:
            return False
        self._running[principal.sub] = running + 1
        return True

    def release(self, principal: Principal) -> None:
        """Give back a slot that `acquire` granted."""
        running = self._running.get(principal.sub, 0)
        if running == 0:
            raise ValueError("a slot was released that nobody holds")
        if running == 1:
            del self._running[principal.sub]
        else:
            self._running[principal.sub] = running - 1

    def running(self, sub: Digest) -> int:
        """How many requests this key has running."""
        return self._running.get(sub, 0)


class RefusalBudget:
    """A token bucket per key: refusals above `per_second` are counted instead of receipted.

    A key that is refused endlessly could otherwise fill the log at the cost of an empty
    request each.  The bucket holds two seconds' worth.  `clock` is monotonic, in seconds.
    """

    def __init__(self, *, per_second: float, clock: Callable[[], float]) -> None:
        self._rate = per_second
        self._burst = max(1.0, 2 * per_second)
        self._clock = clock
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def spent(self, sub: Digest) -> bool:
        """Whether this key's next request is refused at once, without a receipt."""
        # Most keys are refused nothing.
        return sub.value in self._buckets and self._level(sub.value) < 1.0

    def charge(self, sub: Digest) -> None:
        """Note that a refusal of this key got a receipt."""
        key = sub.value
        level = self._level(key)
        self._buckets.pop(key, None)
        if len(self._buckets) >= _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (max(0.0, level - 1.0), self._clock())

    def _level(self, key: bytes) -> float:
        level, then = self._buckets.get(key, (self._burst, self._clock()))
        return min(self._burst, level + (self._clock() - then) * self._rate)
