"""How many connections a listener holds, and which of them gives way when there are too many.

A connection that carries a request is worth more than one that might: when the listener is full,
the oldest connection that has no request under way is closed for the newcomer.  So half heads
and idle connections, however many, cannot keep out callers who say what they want at once.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

TOO_MANY: Final = "connections"
TOO_MANY_OF_ADDRESS: Final = "per_address"

_SCANNED_AT_ONCE: Final = 256
_NEXT_SCAN_SECONDS: Final = 0.1
_OTHER_DESCRIPTORS: Final = 64
_DESCRIPTORS_EACH: Final = 2


class Member(Protocol):
    """One connection.  `peer` is its address, None for one that has none (a Unix socket)."""

    peer: str | None

    @property
    def is_waiting(self) -> bool:
        """Whether no request is under way on it."""

    def give_way(self) -> None:
        """Close it."""


class Crowd:
    """The connections of one listener.  `per_address` None: no bound for a single address.

    `clock` gives steady seconds.
    """

    def __init__(
        self, *, connections: int, per_address: int | None, clock: Callable[[], float]
    ) -> None:
        self._most = connections
        self._most_each = per_address
        self._clock = clock
        self._members: dict[Member, None] = {}  # oldest first
        self._of_address: dict[str, int] = {}
        self._next_out: deque[Member] = deque()
        self._scan_at = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, member: Member) -> str | None:
        """Take a new connection in, or return why it cannot stay: one of the two constants."""
        peer = member.peer
        if self._most_each is not None and self._count_of(peer) >= self._most_each:
            return TOO_MANY_OF_ADDRESS
        if len(self._members) >= self._most and not self._make_room():
            return TOO_MANY
        self._members[member] = None
        if peer is not None:
            self._of_address[peer] = self._of_address.get(peer, 0) + 1
        return None

    def leave(self, member: Member) -> None:
        """Forget a connection that has ended; one that was never taken in is no error."""
        if member not in self._members:
            return
        del self._members[member]
        peer = member.peer
        if peer is not None:
            left = self._of_address[peer] - 1
            if left:
                self._of_address[peer] = left
            else:
                del self._of_address[peer]

    def _count_of(self, peer: str | None) -> int:
        return 0 if peer is None else self._of_address.get(peer, 0)

    def _make_room(self) -> bool:
        if not self._next_out:
            self._scan()
        while self._next_out:
            member = self._next_out.popleft()
            # It may have got a request, or gone, since it was looked at.
            if member in self._members and member.is_waiting:
                self.leave(member)
                member.give_way()
                return True
        return False

    def _scan(self) -> None:
        # A listener full of running requests is not looked through for every newcomer.
        now = self._clock()
        if now < self._scan_at:
            return
        waiting = (member for member in self._members if member.is_waiting)
        self._next_out.extend(islice(waiting, _SCANNED_AT_ONCE))
        if not self._next_out:
            self._scan_at = now + _NEXT_SCAN_SECONDS


def fitting_connections(wanted: int, descriptors: int) -> int:
    """How many connections fit a process that may have so many open files.

    Every connection may need one more to an engine.  At least 1.
    """
    return max(1, min(wanted, (descriptors - _OTHER_DESCRIPTORS) // _DESCRIPTORS_EACH))
