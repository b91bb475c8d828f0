"""From the entries of a log to the root its checkpoint signs, in memory that does not grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.tiles import (
    TILE_BYTES,
    TILE_WIDTH,
    Tile,
    bundles_of,
    root_from_tiles,
    tile_root,
    width_of,
)
from attestation.merkle.tree import HASH_BYTES, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.log.resources import Resources
    from attestation.merkle.checkpoint import Checkpoint

_HEIGHT = 8


def verify_tree(
    resources: Resources,
    checkpoint: Checkpoint,
    *,
    since: int,
    see: Callable[[int, bytes], None],
) -> None:
    """Check that the log's entries and tiles are those the checkpoint commits to.

    1. Every entry bundle holds as many entries as the size says; `see(index, entry)` gets each.
    2. The leaf hashes of a bundle's entries are its level-0 tile.
    3. The roots of full tiles are the tiles of the level above, level by level.
    4. The root over the tiles at the right edge is the checkpoint's.

    Entries before `since`, rounded down to a whole tile, are not read: for them the tiles'
    hashes, which lead to the same root, stand.  Holds at most one tile of each level.  Raises
    `EvidenceError` (codes "log_tile", "log_root", "log_incomplete") and `MalformedError`.
    """
    start = min(since, checkpoint.size) // TILE_WIDTH * TILE_WIDTH
    levels = _Levels(resources, checkpoint.size, start)
    for bundle in bundles_of(checkpoint.size, since=start):
        entries = resources.entries(bundle)
        for index, entry in enumerate(entries, bundle.index * TILE_WIDTH):
            see(index, entry)
        levels.add(bundle, b"".join(map(leaf_hash, entries)))
    if levels.finish() != checkpoint.root:
        raise EvidenceError(
            "the log's tiles do not lead to the root its checkpoint signs",
            code="log_root",
            expected=f"the root of the {checkpoint.size} entries that were signed",
            observed="another root",
        )


class _Levels:
    """The hashes at the right edge of every level, as far as the entries have been read."""

    __slots__ = ("_edge", "_resources", "_size")

    def __init__(self, resources: Resources, size: int, start: int) -> None:
        self._resources = resources
        self._size = size
        self._edge = [b""]
        while size >> _HEIGHT * len(self._edge):
            self._edge.append(self._held(len(self._edge), start))

    def add(self, bundle: Tile, hashes: bytes) -> None:
        """Take the leaf hashes of the next bundle, and every tile it completes."""
        level, index = 0, bundle.index
        self._compare(level, index, hashes)
        while len(hashes) == TILE_BYTES:
            self._edge[level] = b""
            level, index = level + 1, index // TILE_WIDTH
            hashes = self._edge[level] + tile_root(hashes)
            if len(hashes) == TILE_BYTES:
                self._compare(level, index, hashes)
        self._edge[level] = hashes

    def finish(self) -> bytes:
        """Compare the partial tiles above the entries' own and return the root."""
        for level, hashes in enumerate(self._edge[1:], 1):
            if hashes:
                self._compare(level, self._size >> _HEIGHT * (level + 1), hashes)
        return root_from_tiles(self._size, lambda level, _index, _width: self._edge[level])

    def _held(self, level: int, start: int) -> bytes:
        """Return what the level's tile at the edge of the first `start` entries holds of them."""
        index, held = divmod(start >> _HEIGHT * level, TILE_WIDTH)
        if not held:
            return b""
        width = width_of(size=self._size, level=level, index=index)
        return self._resources.read_tile(level, index, width)[: held * HASH_BYTES]

    def _compare(self, level: int, index: int, hashes: bytes) -> None:
        width = len(hashes) // HASH_BYTES
        if self._resources.read_tile(level, index, width) != hashes:
            raise EvidenceError(
                f"{Tile(level=level, index=index, width=width).path} does not hold the hashes of "
                + (f"the tiles of level {level - 1}" if level else "the log's entries"),
                code="log_tile",
                hint="the file is damaged, or entries were exchanged after they were logged",
            )
