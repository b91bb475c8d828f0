"""The log of a boot that has ended: its tree from the static files, the rest from segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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

MOST_REREAD: Final = 1 << 18
"""Leaves read again from segments for a proof: some seconds, and about 18 MB of memory.  It is
far more than a crash leaves unexported."""


class EndedLog:
    """Proofs from a boot folder that nobody writes to any more; nothing in it is modified.

    After a crash the static files lag behind the segments; what they lack is read from there and
    kept in memory, `most_reread` leaves at most.
    """

    def __init__(
        self,
        layer: FileLayer,
        folder: Path,
        evidence: FolderEvidence,
        *,
        most_reread: int = MOST_REREAD,
    ) -> None:
        self._most = most_reread
        self._layer = layer
        self._folder = folder
        self._tree: TileTree | None = None
        self._from_tiles = True
        self._shown = 0  # leaves that the tree has from tiles
        self.evidence = evidence
        self.segments = BootSegments(layer, folder)

    def proved_path(self, *, entry: bytes, index: int, size: int, root: bytes) -> list[bytes]:
        """Return the audit path of an entry, which was seen to lead to `root`.

        If the tiles do not give it, the segments are asked.  Raises `UnavailableError`: code
        "log_unreadable" if they do not either, "log_tiles_damaged" if there are too many leaves
        to read; and OSError or `MalformedError` as the reading of segments does.
        """
        try:
            return self._grown(size).proved_path(entry=entry, index=index, size=size, root=root)
        except UnavailableError:
            if not self._from_tiles:
                raise
        self._tree = None
        self._require_rereadable(0, size)
        self._from_tiles = False
        return self._grown(size).proved_path(entry=entry, index=index, size=size, root=root)

    def _grown(self, size: int) -> TileTree:
        if self._tree is None:
            resumed = self._resumed() if self._from_tiles else None
            self._shown = 0 if resumed is None else resumed.size
            # Before anything is remembered: the tiles may be made afresh in the meantime.
            self._require_rereadable(self._shown, size)
            self._from_tiles = resumed is not None
            self._tree = resumed or TileTree(_no_tiles)
        self._require_rereadable(self._shown, size)
        if self._tree.size < size:
            self._read_on(self._tree)
        if self._tree.size < size:
            raise UnavailableError("leaves of an ended boot are missing", code="log_unreadable")
        return self._tree

    def _require_rereadable(self, shown: int, size: int) -> None:
        if size - shown > self._most:
            raise UnavailableError(
                "the tiles of an ended boot are damaged or missing",
                code="log_tiles_damaged",
                expected=f"tiles up to leaf {size}, or at most {self._most} leaves without",
                observed=f"{size - shown} leaves without",
                hint="make them afresh: attested log export",
            )

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
                if tree.size - self._shown >= self._most:
                    return
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
