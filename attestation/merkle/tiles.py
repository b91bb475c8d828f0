"""C2SP tiles (c2sp.org/tlog-tiles): a log's hashes and entries as static files.

    tile/0/x001/x234/067            256 leaf hashes
    tile/1/000.p/17                 17 roots of full level-0 tiles
    tile/entries/273.p/112          112 entries, each after its length

A hash tile holds 1 to 256 consecutive subtree roots of one level (level n: subtrees of 256^n
leaves); an entry bundle holds the entries whose leaf hashes the level-0 tile of that index holds.
Nothing read from a tile is authenticated before it has led to a root that somebody signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.merkle.tree import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, node_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 0xFFFF
_HEIGHT = 8
_LENGTH_BYTES = 2
_GROUP = 1000
_PATH = re.compile(
    r"tile/(?:entries|(?P<level>0|[1-9][0-9]?))/"
    r"(?P<index>(?:x(?!000)[0-9]{3}/(?:x[0-9]{3}/)*)?[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)

ReadTile = Callable[[int, int, int], bytes]
"""`read(level, index, width)` returns exactly the `width` hashes of that tile, 32 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One resource of a log: a hash tile of `level` 0..63, or with level None an entry bundle.

    `width` is the number of hashes or entries: 256 for a full tile, 1 to 255 for a partial one.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise _malformed_path("a level of 0 to 63")
        if not 0 <= self.index <= MAX_SIZE:
            raise _malformed_path("an index below 2^64")
        if not 1 <= self.width <= TILE_WIDTH:
            raise _malformed_path("a width of 1 to 256")

    @property
    def path(self) -> str:
        """The path below the log's prefix; `parse_tile_path` of it gives the tile again."""
        groups = [f"{self.index % _GROUP:03}"]
        rest = self.index // _GROUP
        while rest:
            groups.append(f"x{rest % _GROUP:03}")
            rest //= _GROUP
        level = "entries" if self.level is None else str(self.level)
        suffix = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"

    @property
    def full(self) -> Tile:
        """The full tile of the same place, which a log may serve instead of a partial one."""
        return Tile(level=self.level, index=self.index)


def parse_tile_path(path: str) -> Tile:
    """Return the tile a path names; only the one canonical path of a tile is taken.

    No leading zeroes, no empty groups (`x000/001`), no width 256.  Raises `MalformedError`.
    """
    found = _PATH.fullmatch(path) if len(path) <= _GROUP else None
    if found is None:
        raise _malformed_path("tile/<level or entries>/<index>[.p/<width>]")
    width = TILE_WIDTH if found["width"] is None else int(found["width"])
    if found["width"] is not None and width >= TILE_WIDTH:
        raise _malformed_path("a width of 1 to 255 after .p/")
    return Tile(
        level=None if found["level"] is None else int(found["level"]),
        index=int(found["index"].replace("x", "").replace("/", "")),
        width=width,
    )


def width_of(*, size: int, level: int, index: int) -> int:
    """Return how many hashes (level 0: also entries) the tile has in a tree of `size` leaves."""
    return max(0, min(TILE_WIDTH, (size >> _HEIGHT * level) - index * TILE_WIDTH))


def tiles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the hash tiles of a tree of `size` leaves, lowest level first, in order.

    Only those that the tree of its first `since` leaves does not have with the same width.
    """
    level = 0
    while size >> _HEIGHT * level > 0:
        yield from _row(level, size >> _HEIGHT * level, since >> _HEIGHT * level)
        level += 1


def bundles_of(size: int, *, since: int = 0) -> Iterator[Tile]:
    """Yield the entry bundles of a tree of `size` leaves, as `tiles_of` yields its hash tiles."""
    return _row(None, size, since)


def parse_hash_tile(data: bytes, *, width: int) -> list[bytes]:
    """Return the hashes of a tile, which must be `width` in number.  Raises `MalformedError`."""
    _require_tile(data, width)
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def tile_root(data: bytes) -> bytes:
    """Return the root over a full tile: one hash of the level above.  Raises `MalformedError`."""
    _require_tile(data, TILE_WIDTH)
    return _subtree_root(data)


def parse_entry_bundle(data: bytes, *, width: int) -> list[bytes]:
    """Return the entries of a bundle, which must be `width` in number and fill it exactly.

    Each is preceded by its length, 2 bytes big-endian.  Raises `MalformedError`.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != len(data) or len(entries) != width:
        raise MalformedError(
            "the entry bundle is malformed",
            code="bundle",
            expected=f"{width} entries, each after its length, and nothing else",
            observed=f"{len(entries)} entries ending at byte {at} of {len(data)}",
        )
    return entries


def encode_entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of 1 to 256 entries of at most 65,535 bytes.  Raises `MalformedError`."""
    longest = max(map(len, entries), default=0)
    if not 1 <= len(entries) <= TILE_WIDTH or longest > MAX_ENTRY_BYTES:
        raise MalformedError(
            "there is no such entry bundle",
            code="bundle",
            expected=f"1 to {TILE_WIDTH} entries of at most {MAX_ENTRY_BYTES} bytes",
            observed=f"{len(entries)}, the longest of {longest} bytes",
        )
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries)


def root_from_tiles(size: int, read: ReadTile) -> bytes:
    """Return the root of the tree of `size` leaves, from at most one tile of each level."""
    if not 0 <= size <= MAX_SIZE:
        raise _impossible("a size below 2^64", f"{size}")
    return _Reader(size, read).range_root(0, size) if size else EMPTY_ROOT


def inclusion_path_from_tiles(index: int, size: int, read: ReadTile) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, leaf first.

    The same as `tree.inclusion_path` of all leaves, from at most two tiles of each level.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise _impossible("a leaf of the tree", f"index {index} of {size}")
    reader = _Reader(size, read)
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(reader.range_root(middle, high))
            high = middle
        else:
            path.append(reader.range_root(low, middle))
            low = middle
    return path[::-1]


def consistency_path_from_tiles(size1: int, size2: int, read: ReadTile) -> list[bytes]:
    """Return the proof that the tree of `size1` leaves is a prefix of the one of `size2`.

    The same as `tree.consistency_path` of all leaves, deepest node first, and read from the tiles
    of the larger tree alone: at most two of each level.
    """
    if not 1 <= size1 <= size2 <= MAX_SIZE:
        raise _impossible(f"a size of 1 to {size2}", f"{size1}")
    reader = _Reader(size2, read)
    path: list[bytes] = []
    low, high = 0, size2
    while size1 < high:
        middle = low + _split(high - low)
        if size1 <= middle:
            path.append(reader.range_root(middle, high))
            high = middle
        else:
            path.append(reader.range_root(low, middle))
            low = middle
    if low > 0:
        path.append(reader.range_root(low, high))
    return path[::-1]


class _Reader:
    """Subtree roots of one tree, each tile asked for at most once."""

    __slots__ = ("_read", "_size", "_tiles")

    def __init__(self, size: int, read: ReadTile) -> None:
        self._size = size
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def range_root(self, low: int, high: int) -> bytes:
        """Return the root over the leaves low..high; low is a multiple of 2^k >= high - low."""
        peaks: list[bytes] = []
        while low < high:
            height = (high - low).bit_length() - 1
            peaks.append(self._complete(height, low >> height))
            low += 1 << height
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root

    def _complete(self, height: int, number: int) -> bytes:
        """Return the root of the complete subtree of 2^height leaves with this number."""
        level, inner = divmod(height, _HEIGHT)
        index, position = divmod(number << inner, TILE_WIDTH)
        start = position * HASH_BYTES
        return _subtree_root(self._tile(level, index)[start : start + (HASH_BYTES << inner)])

    def _tile(self, level: int, index: int) -> bytes:
        known = self._tiles.get((level, index))
        if known is None:
            width = width_of(size=self._size, level=level, index=index)
            known = self._read(level, index, width)
            _require_tile(known, width)
            self._tiles[level, index] = known
        return known


def _row(level: int | None, size: int, since: int) -> Iterator[Tile]:
    """Yield the tiles of one level that holds `size` hashes and had `since` of them before."""
    full, rest = divmod(size, TILE_WIDTH)
    for index in range(since // TILE_WIDTH, full):
        yield Tile(level=level, index=index)
    if rest and size > since:
        yield Tile(level=level, index=full, width=rest)


def _subtree_root(hashes: bytes) -> bytes:
    """Return the root over a power of two of hashes."""
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join(
            sha256(b"\x01" + hashes[at : at + 2 * HASH_BYTES]).digest() for at in pairs
        )
    return hashes


def _split(size: int) -> int:
    """Return the largest power of two below `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _require_tile(data: bytes, width: int) -> None:
    if len(data) != width * HASH_BYTES:
        raise MalformedError(
            "the tile is malformed",
            code="tile",
            expected=f"{width} hashes of {HASH_BYTES} bytes",
            observed=f"{len(data)} bytes",
        )


def _malformed_path(expected: str) -> MalformedError:
    return MalformedError("there is no such tile", code="tile_path", expected=expected)


def _impossible(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "there is no such Merkle proof", code="proof", expected=expected, observed=observed
    )
