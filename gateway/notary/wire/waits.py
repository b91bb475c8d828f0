"""Which of a connection's questions wait for a receipt to get further, and for whom."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest


class Waits:
    """Bounded altogether and for each owner, so that no owner keeps the others from waiting."""

    def __init__(self, *, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._owners: dict[int, Digest] = {}
        self._counts: Counter[Digest] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._owners)

    def add(self, request: int, owner: Digest) -> bool:
        """Note that this request waits; False, and nothing noted, if that is one too many."""
        if len(self._owners) >= self._most or self._counts[owner] >= self._most_of_one:
            return False
        self._owners[request] = owner
        self._counts[owner] += 1
        return True

    def discard(self, request: int) -> None:
        """Forget a request, if it was waiting."""
        owner = self._owners.pop(request, None)
        if owner is None:
            return
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]
