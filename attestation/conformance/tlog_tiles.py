"""Topic `tlog-tiles`: checkpoints of one log, with the tiles and entry bundles of their sizes.

`checkpoint.N` and `tile/…`; the log's verifier key is the one in the manifest's `meaning`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from functools import partial
from typing import TYPE_CHECKING

from attestation.conformance.case import Case, accept_or_reject
from attestation.conformance.files import require_object, require_text, unknown_shape
from attestation.errors import EvidenceError, MalformedError
from attestation.log import (
    Resources,
    SignedCheckpoint,
    read_checkpoint,
    require_extends,
    verify_tree,
)
from attestation.merkle.note import Vkey, parse_note, parse_vkey
from attestation.merkle.tiles import (
    TILE_WIDTH,
    Tile,
    parse_hash_tile,
    parse_tile_path,
    tile_root,
)
from attestation.merkle.tree import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import ExitStack

    from attestation.conformance.files import VectorDirectory

_CHECKPOINT = re.compile(r"checkpoint\.(0|[1-9][0-9]{0,18})", re.ASCII)
_VKEY = re.compile(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]+={0,2}")


def cases(directory: VectorDirectory, _resources: ExitStack) -> Iterator[Case]:
    """Yield a case for every size, pair of sizes, tile, and every file with one byte changed."""
    manifest = require_object(directory.read_json("manifest.json"), "manifest.json")
    vkey = _only_vkey(require_text(manifest, "meaning", "manifest.json"))
    files = {file: partial(directory.read, file) for file in directory.listed_files()}
    log = _Log(vkey, files)
    for size in log.sizes:
        yield _case(f"size-{size}", "accept", partial(log.verify_size, size))
    for size1, size2 in itertools.combinations(log.sizes, 2):
        yield _case(f"pair-{size1}-{size2}", "accept", partial(log.verify_pair, size1, size2))
    for tile in log.tiles:
        yield _case(f"file-{tile.path}", "accept", partial(log.verify_neighbours, tile))
    for file in files:
        yield _case(f"mutant-{file}", "reject", partial(_verify_changed, vkey, files, file))


def _case(name: str, expected: str, check: Callable[[], None]) -> Case:
    return Case(name=name, expected=expected, run=partial(accept_or_reject, check))


class _Log:
    """The files of a directory as one log of many sizes; a `log.Source`."""

    def __init__(self, vkey: Vkey, files: Mapping[str, Callable[[], bytes]]) -> None:
        self._vkey = vkey
        self._files = files
        self._resources = Resources(self)
        sizes = (_CHECKPOINT.fullmatch(file) for file in files)
        self.sizes = sorted(int(found[1]) for found in sizes if found)
        self.tiles = [parse_tile(file) for file in files if not _CHECKPOINT.fullmatch(file)]
        # A bundle is of the same entries as the level-0 tile of its index.
        self._at: dict[tuple[int, int], list[Tile]] = {}
        for tile in self.tiles:
            self._at.setdefault((tile.level or 0, tile.index), []).append(tile)

    def read(self, path: str, *, limit: int) -> bytes | None:  # noqa: ARG002
        """Return a listed file; what bounds it is the directory of vectors, not `limit`."""
        file = self._files.get(path)
        return None if file is None else file()

    def verify_size(self, size: int) -> None:
        """Signature, origin, entries, tiles and root of one checkpoint."""
        verify_tree(
            self._resources, self.signed(size).checkpoint, since=0, see=lambda _index, _entry: None
        )

    def verify_pair(self, size1: int, size2: int) -> None:
        """The larger tree, as its tiles show it, begins with the smaller one."""
        earlier, now = self.signed(size1).checkpoint, self.signed(size2).checkpoint
        require_extends(self._resources, earlier, now)

    def signed(self, size: int) -> SignedCheckpoint:
        """Return the checkpoint of a size, its signature and origin verified."""
        signed = read_checkpoint(self._files[f"checkpoint.{size}"](), self._vkey)
        if signed.checkpoint.size != size:
            raise _different(f"the size {size}", f"{signed.checkpoint.size}")
        return signed

    def verify_neighbours(self, tile: Tile) -> None:
        """What the listed files beside, below and above a tile say, whether a size needs it or not.

        1. Tiles and bundles over the same entries hold the same hashes, as far as both go.
        2. A hash above the entries is the root of the full tile below it.
        3. The root of a full tile is its hash in the tile above.
        """
        own = self._hashes(tile)
        row = tile.level or 0
        for other in self._at[row, tile.index]:
            shared = min(tile.width, other.width)
            if own[:shared] != self._hashes(other)[:shared]:
                raise _different(f"the hashes of {other.path}", "others")
        for position, root in enumerate(own):
            for below in self._at.get((row - 1, tile.index * TILE_WIDTH + position), ()):
                self._require_root(below, root)
        above, position = divmod(tile.index, TILE_WIDTH)
        for other in self._at.get((row + 1, above), ()):
            if position < other.width:
                self._require_root(tile, self._hashes(other)[position])

    def _require_root(self, tile: Tile, root: bytes) -> None:
        """Only a full tile has a hash in the level above."""
        if tile.width == TILE_WIDTH and tile_root(b"".join(self._hashes(tile))) != root:
            raise _different(f"the root of {tile.path}", "another hash in the level above")

    def _hashes(self, tile: Tile) -> list[bytes]:
        if tile.level is None:
            return [leaf_hash(entry) for entry in self._resources.entries(tile)]
        data = self._resources.read_tile(tile.level, tile.index, tile.width)
        return parse_hash_tile(data, width=tile.width)


def parse_tile(file: str) -> Tile:
    """Return the tile a listed file is; `MalformedError` (code "manifest") if it is none."""
    try:
        return parse_tile_path(file)
    except MalformedError:
        raise unknown_shape(file) from None


def _verify_changed(vkey: Vkey, files: Mapping[str, Callable[[], bytes]], file: str) -> None:
    """Verify a checkpoint, or a tile with its neighbours, after one bit of the file was flipped."""
    log = _Log(vkey, {**files, file: lambda: _flipped(file, files[file]())})
    checkpoint = _CHECKPOINT.fullmatch(file)
    if checkpoint is not None:
        log.verify_size(int(checkpoint[1]))
    else:
        log.verify_neighbours(parse_tile(file))


def _flipped(file: str, data: bytes) -> bytes:
    # Of a checkpoint only the text is the log's word: the signatures of others may be anything.
    covered = len(parse_note(data).text.encode()) if _CHECKPOINT.fullmatch(file) else len(data)
    chosen = int.from_bytes(hashlib.sha256(file.encode()).digest(), "big") % max(covered, 1)
    changed = int.from_bytes(data[chosen : chosen + 1], "big") ^ 1
    return data[:chosen] + bytes([changed]) + data[chosen + 1 :]


def _only_vkey(meaning: str) -> Vkey:
    keys = sorted(set(_VKEY.findall(meaning)))
    if len(keys) != 1:
        raise MalformedError(
            "the manifest does not name the log's key",
            code="manifest",
            expected='one verifier key in "meaning"',
            observed=f"{len(keys)}",
        )
    return parse_vkey(keys[0])


def _different(expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        "the files of the log contradict each other",
        code="log_files",
        expected=expected,
        observed=observed,
    )
