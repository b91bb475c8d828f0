"""The epochs of a boot by number: which one covers a leaf, and where its record is."""

from __future__ import annotations

from array import array
from bisect import bisect_right

from gateway.notary.log.segments import Location


class EpochBook:
    """Sizes and places of the anchored epochs, 24 bytes each: a year of them fits in memory."""

    def __init__(self) -> None:
        self._sizes = array("Q")
        self._segments = array("Q")
        self._offsets = array("Q")

    @property
    def count(self) -> int:
        """How many there are; the newest has the number below."""
        return len(self._sizes)

    @property
    def covered(self) -> int:
        """The size of the newest epoch: every leaf below it is anchored."""
        return self._sizes[-1] if self._sizes else 0

    def add(self, size: int, location: Location) -> None:
        """Add the next epoch; it must cover more leaves than the one before."""
        if size <= self.covered:
            raise ValueError("an epoch covers nothing new")
        self._sizes.append(size)
        self._segments.append(location.segment)
        self._offsets.append(location.offset)

    def covering(self, index: int) -> int | None:
        """Return the number of the first epoch that covers the leaf, None if none does yet."""
        number = bisect_right(self._sizes, index)
        return number if number < self.count else None

    def location(self, number: int) -> Location | None:
        """Return where the record of an epoch is, None if there is no such epoch."""
        if not 0 <= number < self.count:
            return None
        return Location(self._segments[number], self._offsets[number])
