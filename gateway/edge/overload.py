"""How much one process that serves callers has taken on: requests, and the bytes they hold.

Both are bounded.  Beyond the first bound a request is turned away before its key is looked at:
nothing is announced and nothing read, so that turning away costs next to nothing.  Beyond the
second a request that has its receipt already ends with it.

No key gets all of the second: what its requests hold beside each other is at most four times what
is left.  Alone it gets four fifths, with others who do as it does less, and there is always
something left for one more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.edge.limits import EdgeLimits


_SHARE: Final = 4


class Load:
    """What is under way in this process; `enter` and `leave` come in pairs."""

    __slots__ = ("_most_bytes", "_most_requests", "_of_key", "held_bytes", "requests")

    def __init__(self, limits: EdgeLimits) -> None:
        self._most_requests = limits.in_flight
        self._most_bytes = limits.buffered_bytes
        self._of_key: dict[bytes, int] = {}
        self.requests = 0
        self.held_bytes = 0

    def enter(self) -> bool:
        """Count one more request, or return False if there are as many as there may be."""
        if self.requests >= self._most_requests:
            return False
        self.requests += 1
        return True

    def leave(self) -> None:
        """Count one request less."""
        self.requests -= 1

    def hold(self, count: int, key: bytes, own: int) -> bool:
        """Count so many bytes more, or return False, and count none, if that is too many.

        They are for a request of `key`, any bytes that tell keys apart, that holds `own` bytes
        already.  The share of a key bounds what it holds for several requests only.
        """
        held = self.held_bytes + count
        if held > self._most_bytes:
            return False
        of_key = self._of_key.get(key, 0)
        if of_key > own and of_key + count > _SHARE * (self._most_bytes - held):
            return False
        self.held_bytes = held
        self._of_key[key] = of_key + count
        return True

    def let_go(self, count: int, key: bytes) -> None:
        """Count so many bytes less."""
        self.held_bytes -= count
        left = self._of_key.get(key, 0) - count
        if left > 0:
            self._of_key[key] = left
        else:
            self._of_key.pop(key, None)
