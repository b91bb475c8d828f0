"""Two lists of digests side by side: the longest sequence that both have in common.

Hyyrö, "Bit-parallel LCS-length computation revisited" (2004): a row of the usual table is one
integer, so that a step costs what adding integers of that many bits costs, whatever the digests.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def align(wanted: Sequence[bytes], seen: Sequence[bytes]) -> tuple[tuple[int, int], ...]:
    """Return the places (in `wanted`, in `seen`) of a longest common subsequence, ascending.

    Empty digests equal nothing.  Of several longest ones the first places in `seen` are taken, so
    that what is there too often is left over at its end.
    """
    places: dict[bytes, int] = defaultdict(int)
    for at, digest in enumerate(seen):
        places[digest] |= 1 << at
    everywhere = (1 << len(seen)) - 1
    row, rows = everywhere, []
    for digest in wanted:
        shared = row & places.get(digest, 0) if digest else 0
        row = ((row + shared) | (row - shared)) & everywhere
        rows.append(row)
    return _trace(rows, len(seen))


def _trace(rows: Sequence[int], width: int) -> tuple[tuple[int, int], ...]:
    """Go back through the rows: a zero bit says that one more is in common up to this place."""
    found = []
    line, at = len(rows) - 1, width - 1
    while line >= 0 and at >= 0:
        if rows[line] >> at & 1:
            at -= 1
            continue
        if not line or rows[line - 1] >> at & 1:
            found.append((line, at))
            at -= 1
        line -= 1
    return tuple(reversed(found))
