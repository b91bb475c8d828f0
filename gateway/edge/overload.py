"""How much one process that serves callers has taken on: requests, and the bytes they hold.

Both are bounded.  Beyond the first bound a request is turned away before its key is looked at:
nothing is announced and nothing read, so that turning away costs next to nothing.  Beyond the
second a request that has its receipt already ends with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.edge.limits import EdgeLimits


class Load:
    """What is under way in this process; `enter` and `leave` come in pairs."""

    __slots__ = ("_most_bytes", "_most_requests", "held_bytes", "requests")

    def __init__(self, limits: EdgeLimits) -> None:
        self._most_requests = limits.in_flight
        self._most_bytes = limits.buffered_bytes
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

    def hold(self, count: int) -> bool:
        """Count so many bytes more, or return False, and count none, if that is too many."""
        held = self.held_bytes + count
        if held > self._most_bytes:
            return False
        self.held_bytes = held
        return True

    def let_go(self, count: int) -> None:
        """Count so many bytes less."""
        self.held_bytes -= count
