"""What must hold of a disk after the power went, whenever it went.

P1  every receipt that was released is in the segments at its index, byte for byte
P2  the leaves that are there are the first leaves of the log that was written: none other, none
    missing in between, in their order
P3  every checkpoint that was shown is covered: so many leaves are there, and give its root
P4  every epoch that was shown is there
P5  the static files, if they name a checkpoint, make a whole log: every tile and every entry it
    needs, hashing to its root, and that root is the segments' own
P6  no file of a boot that had ended before is other than it was
P7  the survey calls a boot whole, torn or unborn, never damaged, shortened or foreign; unborn only
    one that had not started
P8  the next boot starts, and names the last boot that had started, by a checkpoint no older than
    any that was shown
P9  the restarted notary finds every released receipt for its owner, and as anchored where it was
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from attestation.errors import AttestationError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.merkle.tiles import Tile, bundles_of, parse_entry_bundle, root_from_tiles
from attestation.merkle.tree import leaf_hash
from tests.crash.outside import Boot, Violation, read_boot, require
from tests.crash.states import Image
from tests.crash.trace import Note

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A receipt that `seal` returned: boot folder, owner's digest, id, index and token."""

    folder: str
    sub: bytes
    jti: str
    index: int
    token: str


@dataclass(slots=True, kw_only=True)
class Said:
    """What one boot had told the outside when the power went."""

    ready: bool = False
    closed: bool = False
    receipts: list[Released] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    epochs: int = 0
    anchored: dict[str, str] = field(default_factory=dict)  # id: proof

    @property
    def shown(self) -> int:
        return max((checkpoint.size for checkpoint in self.checkpoints), default=0)


def said_by(notes: Iterable[Note]) -> dict[str, Said]:
    """Sort the promises by boot folder, in the order in which the boots became ready."""
    boots: dict[str, Said] = {}
    for note in notes:
        if note.kind == "receipt":
            boots[note.value.folder].receipts.append(note.value)
            continue
        folder, value = note.value
        said = boots.setdefault(folder, Said())
        if note.kind == "ready":
            said.ready = True
        elif note.kind == "closed":
            said.closed = True
        elif note.kind == "checkpoint":
            said.checkpoints.append(parse_checkpoint(parse_note(value).text))
        elif note.kind == "epoch":
            said.epochs = max(said.epochs, value + 1)
        elif note.kind == "anchored":
            said.anchored[value[0]] = value[1]
        else:
            raise LookupError(note.kind)
    return boots


def folders_of(image: Image) -> dict[str, Files]:
    """The files of each boot folder, by their path in it; what is being deleted is none."""
    boots: dict[str, Files] = {
        name.removeprefix("data/"): {}
        for name in image.folders
        if name.startswith("data/") and name.count("/") == 1 and not name.startswith("data/.")
    }
    for path, data in image.files.items():
        top, _, rest = path.removeprefix("data/").partition("/")
        if rest and top in boots:
            boots[top][rest] = data
    return boots


@dataclass(slots=True)
class Outsider:
    """Judges images; what it read before it remembers by content.

    `truth` has the entries of every log as they were written; P2 is asked only where it has.
    """

    truth: dict[str, list[bytes]]
    _boots: OrderedDict[int, Boot | None] = field(default_factory=OrderedDict)
    _exports: dict[int, Checkpoint | None] = field(default_factory=dict)

    def judge(self, image: Image, said: dict[str, Said]) -> dict[str, Boot | None]:
        """P1 to P5 for every boot; returns what was read.  Raises `Violation`."""
        found = folders_of(image)
        read: dict[str, Boot | None] = {}
        for folder, files in found.items():
            boot = read[folder] = self._read(files)
            self._judge_boot(folder, boot, files, said.get(folder, Said()))
        for folder, told in said.items():
            require(folder in found or not told.ready, "P1 a started boot is there", folder)
        _judge_chain(read, [folder for folder, told in said.items() if told.ready])
        return read

    def _judge_boot(self, folder: str, boot: Boot | None, files: Files, said: Said) -> None:
        require(boot is not None or not said.ready, "P1 a started boot has evidence", folder)
        if boot is None:
            return
        require(bool(boot.notes) or not said.ready, "P3 a started boot has a checkpoint", folder)
        for receipt in said.receipts:
            kept = boot.receipts.get(receipt.index) == receipt.token
            require(kept, "P1 a released receipt is there", f"{folder} {receipt.index}")
            require(boot.ids.get(receipt.jti) == receipt.index, "P1 under its id", receipt.jti)
        truth = self.truth.get(folder, boot.entries)
        require(boot.entries == truth[: len(boot.entries)], "P2 a prefix of the log", folder)
        for checkpoint in said.checkpoints:
            require(len(boot.entries) >= checkpoint.size, "P3 a shown size", str(checkpoint.size))
            require(boot.root(checkpoint.size) == checkpoint.root, "P3 a shown root", folder)
        require(len(boot.epochs) >= said.epochs, "P4 a shown epoch", f"{len(boot.epochs)}")
        exported = self._export(boot, files)
        if exported is not None:
            require(exported.size <= len(boot.entries), "P5 not ahead of the log", folder)
            require(boot.root(exported.size) == exported.root, "P5 the log's own root", folder)

    def _read(self, files: Files) -> Boot | None:
        kept = {n: d for n, d in files.items() if n == "boot.json" or n.startswith("segments/")}
        key = _key(kept)
        if key not in self._boots:
            self._boots[key] = read_boot(kept)
            if len(self._boots) > 512:
                self._boots.popitem(last=False)
        return self._boots[key]

    def _export(self, boot: Boot, files: Files) -> Checkpoint | None:
        kept = {name: data for name, data in files.items() if name.startswith("log/")}
        key = _key(kept)
        if key not in self._exports:
            self._exports[key] = read_export(boot, kept)
        return self._exports[key]


def _judge_chain(read: dict[str, Boot | None], started: list[str]) -> None:
    """P8: who started names who had started before, or a boot in between that nearly had."""
    for before, after in pairwise(started):
        name = previous_of(read[after])
        if name != before:
            name = previous_of(read.get(name))
        require(name == before, "P8 a started boot names the one before", f"{after}: {name!r}")


def previous_of(boot: Boot | None) -> str:
    """The folder of the boot that a boot names as the one before it, or nothing."""
    prev = None if boot is None else boot.evidence.statement.prev
    if prev is None:
        return ""
    return parse_checkpoint(parse_note(prev.checkpoint).text).origin.rpartition("/")[2]


def read_export(boot: Boot, files: Files) -> Checkpoint | None:
    """Check the static files in themselves; None if they name no checkpoint yet."""
    if "log/checkpoint" not in files:
        return None
    try:
        note = parse_note(files["log/checkpoint"])
        verify_note(note, [boot.vkey])
        checkpoint = parse_checkpoint(note.text)
    except AttestationError as error:
        raise Violation("P5 the published checkpoint is one", repr(error)) from error

    def read(level: int, index: int, width: int) -> bytes:
        return _tile(files, Tile(level=level, index=index, width=width))[: width * 32]

    require(root_from_tiles(checkpoint.size, read) == checkpoint.root, "P5 tiles give the root", "")
    for tile in bundles_of(checkpoint.size):
        entries = parse_entry_bundle(_tile(files, tile), width=_width(files, tile))
        hashes = b"".join(leaf_hash(entry) for entry in entries[: tile.width])
        require(read(0, tile.index, tile.width) == hashes, "P5 entries hash to tiles", tile.path)
    return checkpoint


def _tile(files: Files, tile: Tile) -> bytes:
    """A tile as a reader gets it: the full one may stand in for a partial one."""
    for path in (tile.path, tile.full.path):
        if f"log/{path}" in files:
            return files[f"log/{path}"]
    raise Violation("P5 every tile of the checkpoint is there", tile.path)


def _width(files: Files, tile: Tile) -> int:
    return tile.width if f"log/{tile.path}" in files else tile.full.width


def _key(files: Files) -> int:
    return hash(frozenset(files.items()))
