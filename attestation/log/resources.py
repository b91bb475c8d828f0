"""What a log is read from, and its tiles as a checkpoint's size demands them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeVar

from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.note import MAX_NOTE_BYTES
from attestation.merkle.tiles import (
    MAX_ENTRY_BYTES,
    TILE_BYTES,
    TILE_WIDTH,
    Tile,
    parse_entry_bundle,
    parse_hash_tile,
)
from attestation.merkle.tree import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CHECKPOINT = "checkpoint"
_TILES_KEPT = 256
_MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)


class Source(Protocol):
    """Where a log is read from: a folder, a URL."""

    def read(self, path: str, *, limit: int) -> bytes | None:
        """Return the resource below the log's prefix, None if the log does not have it.

        Raises `MalformedError` for one of more than `limit` bytes, `UnavailableError` where it
        cannot be told.
        """


class Resources:
    """The checkpoint and the tiles of one log, each of exactly the form asked for.

    A partial tile that is gone is cut out of the full one (c2sp.org/tlog-tiles, "Partial
    Tiles").  Nothing is authenticated here.  Everything raises `EvidenceError` (code
    "log_incomplete") for what the log lacks and `MalformedError` for what has another form.
    The tiles used last are kept, at most 2 MiB of them: proofs of neighbours share most of theirs.
    """

    __slots__ = ("_kept", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()

    def checkpoint(self) -> bytes:
        """Return the signed checkpoint's note."""
        note = self._source.read(CHECKPOINT, limit=MAX_NOTE_BYTES)
        if note is None:
            raise _incomplete(CHECKPOINT)
        return note

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Return the hashes of a tile, 32 bytes each: a `merkle.tiles.ReadTile`."""
        place = (level, index, width)
        known = self._kept.pop(place, None)
        if known is None:
            known = self._read_tile(Tile(level=level, index=index, width=width))
        self._kept[place] = known
        if len(self._kept) > _TILES_KEPT:
            self._kept.popitem(last=False)
        return known

    def entries(self, bundle: Tile) -> list[bytes]:
        """Return the entries of a bundle."""

        def cut(data: bytes, held: int) -> list[bytes]:
            return parse_entry_bundle(data, width=held)[: bundle.width]

        return self._tile(bundle, _MAX_BUNDLE_BYTES, cut)

    def _read_tile(self, tile: Tile) -> bytes:
        def cut(data: bytes, held: int) -> bytes:
            parse_hash_tile(data, width=held)
            return data[: tile.width * HASH_BYTES]

        return self._tile(tile, TILE_BYTES, cut)

    def _tile(self, tile: Tile, limit: int, cut: Callable[[bytes, int], T]) -> T:
        for held in (tile, tile.full):
            data = self._source.read(held.path, limit=limit)
            if data is not None:
                return _named(held, data, cut)
        raise _incomplete(tile.path)


def _named(tile: Tile, data: bytes, cut: Callable[[bytes, int], T]) -> T:
    try:
        return cut(data, tile.width)
    except MalformedError as error:
        raise MalformedError(
            f"{tile.path}: {error.message}",
            code=error.code,
            expected=error.expected,
            observed=error.observed,
        ) from error


def _incomplete(path: str) -> EvidenceError:
    return EvidenceError(
        f"the log does not have {path}",
        code="log_incomplete",
        expected="everything that its signed checkpoint commits to",
        hint="is this the folder or address that holds `checkpoint` and `tile/`?",
    )
