"""The log of a boot that has ended: its tree from the static files, the rest from segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import AttestationError, MalformedError, UnavailableError
from gateway.notary.log.evidence import load_exported_note
from gateway.notary.log.export import tile_loader
from gateway.notary.log.folder import LOG
from gateway.notary.log.leaves import entry_of
from gateway.notary.log.scan import BootSegments
from gateway.notary.log.segments import MAGIC, Location
from gateway.notary.log.tree import TileTree

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.merkle.tiles import Tile
    from gateway.notary.files import FileLayer
    from gateway.notary.log.evidence import FolderEvidence


class EndedLog:
    """Proofs from a boot folder that nobody writes to any more; nothing in it is modified.

    After a crash the static files lag behind the segments; what they lack is read from there and
    kept in memory.
    """

    def __init__(self, layer: FileLayer, folder: Path, evidence: FolderEvidence) -> None:
        self._layer = layer
        self._folder = folder
        self._tree: TileTree | None = None
        self._from_tiles = True
        self.evidence = evidence
        self.segments = BootSegments(layer, folder)

    def proved_path(self, *, entry: bytes, index: int, size: int, root: bytes) -> list[bytes]:
        """Return the audit path of an entry, which was seen to lead to `root`.

        If the tiles do not give it, the segments are asked.  Raises `UnavailableError` (code
        "log_unreadable") if they do not either, and OSError or `MalformedError` as the reading
        of segments does.
        """
        try:
            return self._grown(size).proved_path(entry=entry, index=index, size=size, root=root)
        except UnavailableError:
            if not self._from_tiles:
                raise
        self._tree, self._from_tiles = None, False
        return self._grown(size).proved_path(entry=entry, index=index, size=size, root=root)

    def _grown(self, size: int) -> TileTree:
        if self._tree is None:
            self._tree = self._resumed() if self._from_tiles else None
            if self._tree is None:
                self._from_tiles = False
                self._tree = TileTree(_no_tiles)
        if self._tree.size < size:
            self._read_on(self._tree)
        if self._tree.size < size:
            raise UnavailableError("leaves of an ended boot are missing", code="log_unreadable")
        return self._tree

    def _resumed(self) -> TileTree | None:
        """Return the tree that the static files show, None if they do not show one."""
        signed = load_exported_note(self._layer, self._folder, self.evidence)
        if signed is None:
            return None
        load = tile_loader(self._layer, self._folder / LOG)
        tree = TileTree(load)
        try:
            tree.resume(signed.checkpoint.size, load)
        except (OSError, AttestationError):
            return None
        return tree if tree.root == signed.checkpoint.root else None

    def _read_on(self, tree: TileTree) -> None:
        try:
            for leaf in self.segments.leaves(*self._place_before(tree.size)):
                if leaf.index == tree.size:
                    tree.append(entry_of(leaf.record))
        except AttestationError:
            # Torn: what came before the tear is there, and the caller sees whether it suffices.
            return

    def _place_before(self, size: int) -> tuple[Location | None, int]:
        """Return the first record of the segment that holds leaf `size`, and its first leaf."""
        place: tuple[Location | None, int] = (None, 0)
        for number in self.segments.numbers():
            try:
                first = self.segments.header(number).first_leaf
            except MalformedError:
                break  # a crash left the last segment before its header was there
            if first > size:
                break
            place = Location(number, len(MAGIC)), first
        return place


def _no_tiles(_tile: Tile) -> bytes:
    raise FileNotFoundError("no static files")
