"""The Merkle tree of a log as tiles: new ones in memory, exported ones on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from attestation.errors import AttestationError, MalformedError, UnavailableError
from attestation.merkle.tiles import (
    TILE_BYTES,
    TILE_WIDTH,
    Tile,
    consistency_path_from_tiles,
    inclusion_path_from_tiles,
    parse_tile_path,
    root_from_tiles,
    tiles_of,
    width_of,
)
from attestation.merkle.tree import HASH_BYTES, root_of_peaks, verify_inclusion

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY_BYTES = 33
_RECORD_BYTES = 2 + ENTRY_BYTES
_ENTRY_LENGTH = ENTRY_BYTES.to_bytes(2, "big")
_HEIGHT = 8
_CACHED_TILES = 256

LoadTile = Callable[[Tile], bytes]
"""Returns the bytes of an exported full tile or bundle; raises OSError."""

_Key = tuple[int | None, int]


class TileTree:
    """An append-only tree of 33-byte entries.

    Tiles stay in memory until `release` says that their full form is exported; from then on
    they are read back through `load`, the newest reads cached.  So memory does not grow with
    the log.  Appending and `publish` belong to one thread; reading is allowed from any, about
    sizes that were reached before the call.
    """

    def __init__(self, load: LoadTile) -> None:
        self._load = load
        self._size = 0
        self._published = 0
        self._peaks: list[bytes] = []
        self._fresh: dict[_Key, bytearray] = {}
        self._cache: OrderedDict[_Key, bytes] = OrderedDict()

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def root(self) -> bytes:
        """The root over all leaves."""
        return root_of_peaks(self._peaks)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees of which the tree consists, the largest first."""
        return tuple(self._peaks)

    @property
    def published(self) -> int:
        """The size up to which `read_resource` answers."""
        return self._published

    def append(self, entry: bytes) -> int:
        """Add an entry of 33 bytes and return its index.  About one hash more than its own."""
        node = sha256(b"\x00" + entry).digest()
        index = self._size
        self._grow(None, index >> _HEIGHT, _ENTRY_LENGTH + entry)
        self._grow(0, index >> _HEIGHT, node)
        height, position = 0, index
        while position & 1:
            node = sha256(b"\x01" + self._peaks.pop() + node).digest()
            height, position = height + 1, position >> 1
            if height % _HEIGHT == 0:
                self._grow(height // _HEIGHT, position >> _HEIGHT, node)
        self._peaks.append(node)
        self._size = index + 1
        return index

    def publish(self, size: int) -> None:
        """Let `read_resource` answer for the tree of `size` leaves: its checkpoint is durable."""
        self._published = max(self._published, size)

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile.

        Raises `UnavailableError` (code "log_unreadable") if the tile cannot be read back.
        """
        return self._read((level, index), width * HASH_BYTES)

    def read_bundle(self, index: int, width: int) -> bytes:
        """Return the first `width` entries of an entry bundle.  Raises as `read_tile`."""
        return self._read((None, index), width * _RECORD_BYTES)

    def read_resource(self, path: str) -> bytes | None:
        """Return the tile or bundle of exactly this path, or None if there is none.

        There is one for every width that the published tree has reached.  Raises as `read_tile`.
        """
        try:
            tile = parse_tile_path(path)
        except MalformedError:
            return None
        level = tile.level or 0
        if tile.width > width_of(size=self._published, level=level, index=tile.index):
            return None
        if tile.level is None:
            return self.read_bundle(tile.index, tile.width)
        return self.read_tile(tile.level, tile.index, tile.width)

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of leaf `index` in the tree of `size` leaves, unverified.

        Raises `UnavailableError`.
        """
        return inclusion_path_from_tiles(index, size, self.read_tile)

    def consistency_path(self, size1: int, size2: int) -> list[bytes]:
        """Return the proof that one tree is a prefix of another, unverified.

        Raises `UnavailableError`.
        """
        return consistency_path_from_tiles(size1, size2, self.read_tile)

    def proved_path(self, *, entry: bytes, index: int, size: int, root: bytes) -> list[bytes]:
        """Return the audit path of `entry` at `index` that was seen to lead to `root`.

        Raises `UnavailableError` (code "log_unreadable") if the tiles give no such path.
        """
        path = self.inclusion_path(index, size)
        leaf = sha256(b"\x00" + entry).digest()
        try:
            verify_inclusion(leaf_hash=leaf, index=index, size=size, path=path, root=root)
        except AttestationError as error:
            raise _unreadable("the tiles of the log do not lead to its checkpoint") from error
        return path

    def unexported(self) -> Iterator[Tile]:
        """Yield the full tiles and bundles that are still in memory."""
        for (level, index), data in list(self._fresh.items()):
            if len(data) == (_RECORD_BYTES * TILE_WIDTH if level is None else TILE_BYTES):
                yield Tile(level=level, index=index)

    def release(self, tile: Tile) -> None:
        """Forget a full tile or bundle: its file is durable."""
        self._fresh.pop((tile.level, tile.index), None)

    def resume(self, size: int, load: LoadTile) -> None:
        """Start an empty tree at the first `size` leaves of an exported one.

        `load` gives its partial tiles and bundle too, exactly as wide as that size demands.
        Raises OSError, or `UnavailableError` if they are not.
        """
        last = Tile(level=None, index=size // TILE_WIDTH, width=size % TILE_WIDTH or TILE_WIDTH)
        partial = [last] if size % TILE_WIDTH else []
        partial += [tile for tile in tiles_of(size) if tile.width < TILE_WIDTH]
        for tile in partial:
            data = load(tile)
            if len(data) != tile.width * (HASH_BYTES if tile.level is not None else _RECORD_BYTES):
                raise _unreadable("a partial tile of the log has another length")
            self._fresh[tile.level, tile.index] = bytearray(data)
        self._size = self._published = size
        self._peaks = [
            self._subtree(height, size)
            for height in range(size.bit_length() - 1, -1, -1)
            if size >> height & 1
        ]

    def _subtree(self, height: int, size: int) -> bytes:
        """Return the root of the complete subtree of 2^height leaves that is a peak of `size`."""
        start = size >> (height + 1) << 1  # in subtrees of this height
        level, inner = divmod(height, _HEIGHT)
        index, position = divmod(start << inner, TILE_WIDTH)
        hashes = self.read_tile(level, index, position + (1 << inner))[position * HASH_BYTES :]
        return root_from_tiles(1 << inner, lambda *_: hashes) if inner else hashes

    def _grow(self, level: int | None, index: int, data: bytes) -> None:
        try:
            self._fresh[level, index] += data
        except KeyError:
            self._fresh[level, index] = bytearray(data)

    def _read(self, key: _Key, length: int) -> bytes:
        fresh = self._fresh.get(key)
        if fresh is not None and len(fresh) >= length:
            return bytes(fresh[:length])
        data = self._cache.get(key)
        if data is None:
            data = self._loaded(key)
        if len(data) < length:
            raise _unreadable("a tile of the log has another length")
        return data[:length]

    def _loaded(self, key: _Key) -> bytes:
        level, index = key
        try:
            data = self._load(Tile(level=level, index=index))
        except OSError as error:
            raise _unreadable("a tile of the log cannot be read back") from error
        if len(data) != (_RECORD_BYTES * TILE_WIDTH if level is None else TILE_BYTES):
            raise _unreadable("a tile of the log has another length")
        self._cache[key] = data
        while len(self._cache) > _CACHED_TILES:
            self._cache.popitem(last=False)
        return data


def _unreadable(message: str) -> UnavailableError:
    return UnavailableError(message, code="log_unreadable")
