"""The log as static files: C2SP tlog-tiles in a folder, always one consistent log.

    log/checkpoint                     written last, by renaming
    log/tile/<level>/<number>          hash tiles, `.p/<width>` while they are not full
    log/tile/entries/<number>          entry bundles, likewise

Whatever moment a reader or a crash picks: every tile and bundle that the checkpoint there needs
is there and on the medium.  The folder may lag behind the log, never contradict it.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from attestation.merkle.tiles import TILE_WIDTH, Tile, bundles_of, tiles_of
from gateway.notary.log.folder import CHECKPOINT, make_folders, read_file, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.tree import LoadTile, TileTree

_FILES_AT_ONCE = 128
_MAX_TILE_BYTES = 1 << 16


def tile_loader(layer: FileLayer, folder: Path) -> LoadTile:
    """Return what reads exported tiles and bundles from the log's folder; it raises OSError.

    A partial tile that is not there is cut from the full one.
    """

    def load(tile: Tile) -> bytes:
        try:
            return read_file(layer, folder / tile.path, _MAX_TILE_BYTES)
        except FileNotFoundError:
            if tile.width == TILE_WIDTH:
                raise
        full = read_file(layer, folder / tile.full.path, _MAX_TILE_BYTES)
        return full[: len(full) * tile.width // TILE_WIDTH]

    return load


class StaticLog:
    """Writes one log's tree, checkpoint by checkpoint, into a folder that is there and empty."""

    def __init__(self, layer: FileLayer, folder: Path, tree: TileTree) -> None:
        self._layer = layer
        self._folder = folder
        self._tree = tree
        self._partials: dict[tuple[int | None, int], list[Tile]] = {}
        self._folders: set[Path] = {folder}
        self.size = 0

    def write(self, size: int, checkpoint: str) -> None:
        """Make the folder show the tree of `size` leaves, which `checkpoint` (a note) signs.

        1. full tiles and bundles that are new, in batches: written, synced, renamed, synced
        2. the partial ones of this size, likewise
        3. the checkpoint
        4. the full ones leave the tree's memory, their partial forms leave the folder

        Raises OSError; the folder shows the size before then, or this one.
        """
        tiles = list(
            itertools.chain(tiles_of(size, since=self.size), bundles_of(size, since=self.size))
        )
        for start in range(0, len(tiles), _FILES_AT_ONCE):
            batch = tiles[start : start + _FILES_AT_ONCE]
            self._write_files([(self._folder / tile.path, self._content(tile)) for tile in batch])
        self._write_files([(self._folder / CHECKPOINT, checkpoint.encode("utf-8"))])
        self.size = size
        for tile in tiles:
            if tile.width == TILE_WIDTH:
                self._tree.release(tile)
                self._remove_partials(tile)
            else:
                self._partials.setdefault((tile.level, tile.index), []).append(tile)

    def _content(self, tile: Tile) -> bytes:
        if tile.level is None:
            return self._tree.read_bundle(tile.index, tile.width)
        return self._tree.read_tile(tile.level, tile.index, tile.width)

    def _write_files(self, files: list[tuple[Path, bytes]]) -> None:
        opened: list[int] = []
        try:
            for path, content in files:
                self._make_folder(path.parent)
                descriptor = self._layer.create(_temporary(path))
                opened.append(descriptor)
                write_all(self._layer, descriptor, content)
            for descriptor in opened:
                self._layer.sync_data(descriptor)
        finally:
            for descriptor in opened:
                self._layer.close(descriptor)
        for path, _ in files:
            self._layer.rename(_temporary(path), path)
        self._sync_folders(path.parent for path, _ in files)

    def _sync_folders(self, folders: Iterable[Path]) -> None:
        for folder in dict.fromkeys(folders):
            self._layer.sync_folder(folder)

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            make_folders(self._layer, self._folder, folder)
            self._folders.add(folder)

    def _remove_partials(self, full: Tile) -> None:
        partials = self._partials.pop((full.level, full.index), [])
        for tile in partials:
            self._layer.remove(self._folder / tile.path)
        if partials:
            folder = (self._folder / partials[0].path).parent
            self._layer.remove_folder(folder)
            self._folders.discard(folder)


class Exporter:
    """Keeps a `StaticLog` at most `seconds` behind the durable checkpoints, in a thread.

    The first failure is final: nothing is written any more, and `on_failure` is called, in that
    thread.
    """

    def __init__(self, log: StaticLog, *, seconds: float, on_failure: Callable[[], None]) -> None:
        self._log = log
        self._seconds = seconds
        self._on_failure = on_failure
        self._wanted: tuple[int, str] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="log-export", daemon=True)

    @property
    def exported(self) -> int:
        """The size that the folder shows."""
        return self._log.size

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def note(self, size: int, checkpoint: str) -> None:
        """Say that the checkpoint over `size` leaves is durable; the newest one is exported."""
        with self._changed:
            self._wanted = (size, checkpoint)
            self._changed.notify()

    def close(self) -> None:
        """Export what was noted last and end the thread.  Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                self._log.write(*wanted)
            except Exception:  # noqa: BLE001 - whatever it was, nobody else would see it here
                self._failed = True
                self._on_failure()
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._seconds)

    def _next(self) -> tuple[int, str] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted is not None or self._closing)
            wanted, self._wanted = self._wanted, None
            return wanted


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")
