"""Which leaves of a log no receipt in the file accounts for."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from attestation.verifier.words import gaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.verifier.epochs import QuotedEpoch


def missing_leaves(
    indices: Sequence[int], epochs: Sequence[QuotedEpoch], size: int
) -> list[tuple[int, int]]:
    """Return the spans of leaves from 1 to below `size` that may be missing receipts.

    `indices` are those of the receipts below `size`, ascending; `epochs` are in the order of
    their numbers.  Between the size of an epoch and that of the next one stands the statement of
    the first: a single leaf there that no receipt has is that statement, and no receipt.
    """
    sizes = [epoch.statement.size for epoch in epochs]
    own = {
        number
        for number, (one, other) in enumerate(itertools.pairwise(epochs))
        if other.statement.epoch == one.statement.epoch + 1
        and _free(indices, one.statement.size, other.statement.size) == 1
    }
    return [
        span
        for span in gaps(indices, 1, size - 1)
        if span[0] != span[1] or bisect_right(sizes, span[0]) - 1 not in own
    ]


def _free(indices: Sequence[int], first: int, end: int) -> int:
    return end - first - (bisect_left(indices, end) - bisect_left(indices, first))
