"""Which leaves of a log no receipt in the file accounts for."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from attestation.verifier.words import gaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attestation.verifier.epochs import QuotedEpoch


def missing_leaves(
    indices: Sequence[int], epochs: Sequence[QuotedEpoch], size: int
) -> list[tuple[int, int]]:
    """Return the spans of leaves from 1 to below `size` that may be missing receipts.

    `indices` are those of the receipts below `size`, ascending; `epochs` are in the order of
    their numbers.  Between the size of an epoch and that of the next one stands the statement of
    the first: a single leaf there that no receipt has is that statement, and no receipt.
    """
    sizes = sorted({epoch.statement.size for epoch in epochs})
    own = {
        one.statement.size
        for one, other in itertools.pairwise(epochs)
        if other.statement.epoch == one.statement.epoch + 1
        and _free(indices, one.statement.size, other.statement.size) == 1
    }
    found: list[tuple[int, int]] = []
    for first, last in _cut(gaps(indices, 1, size - 1), sizes):
        place = bisect_right(sizes, first)
        if place and sizes[place - 1] in own:
            continue
        joins = bool(found) and found[-1][1] + 1 == first
        found.append((found.pop()[0] if joins else first, last))
    return found


def _cut(spans: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the spans in pieces, none of which crosses one of the ascending `sizes`."""
    for first, last in spans:
        cuts = sizes[bisect_right(sizes, first) : bisect_right(sizes, last)]
        starts = [first, *cuts]
        yield from zip(starts, [*(cut - 1 for cut in starts[1:]), last], strict=True)


def _free(indices: Sequence[int], first: int, end: int) -> int:
    """Return how many places from `first` to below `end` have no index."""
    return end - first - (bisect_left(indices, end) - bisect_left(indices, first))
