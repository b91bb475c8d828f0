"""The static files of a boot's log made afresh from its segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, MalformedError, UnavailableError, UsageError
from gateway.notary.log.evidence import load_evidence
from gateway.notary.log.export import StaticLog, tile_loader
from gateway.notary.log.scan import BootSegments
from gateway.notary.log.tree import TileTree
from gateway.notary.log.walk import BootStatus, SegmentWalk

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.evidence import FolderEvidence, SignedNote

_LEAVES_AT_ONCE = 1 << 16


def rebuild_log(layer: FileLayer, boot_folder: Path, out: Path) -> SignedNote:
    """Write a boot's log as static files into the new folder `out`; return its checkpoint.

    The boot folder is only read.  Everything up to its last signed checkpoint is written, after
    the leaves were seen to give every root that was signed on the way.  Raises `UsageError` if
    `out` exists, `EvidenceError` if the segments are not what was written (`out` then shows an
    earlier checkpoint or none), `UnavailableError` or `MalformedError` if they cannot be read.
    """
    try:
        evidence = load_evidence(layer, boot_folder)
        segments = BootSegments(layer, boot_folder)
        numbers = segments.numbers()
        if numbers and numbers[0] > 0:
            raise UnavailableError(
                "the oldest segments of this boot are no longer kept", code="log_retired"
            )
        _make_new(layer, out)
        rebuild = _Rebuild(layer, out, evidence)
        walked = SegmentWalk(segments, evidence).run(numbers, rebuild)
        signed = rebuild.finish()
    except OSError as error:
        raise UnavailableError(
            f"the log of {boot_folder} cannot be read or written",
            code="log_unreadable",
            observed=error.strerror or "an I/O error",
        ) from error
    if walked.finding is not None and walked.finding.status is not BootStatus.TORN:
        raise EvidenceError(
            f"the segments of {boot_folder} are {walked.finding.status}",
            code="segments",
            expected="every record where it was written",
            observed=walked.finding.reason,
        )
    return signed


class _Rebuild:
    """Grows a tree beside a walk and writes it out at signed sizes."""

    def __init__(self, layer: FileLayer, out: Path, evidence: FolderEvidence) -> None:
        self._evidence = evidence
        self._tree = TileTree(tile_loader(layer, out))
        self._log = StaticLog(layer, out, self._tree)
        self._waiting: list[bytes] = []
        self._last: SignedNote | None = None

    def leaf(self, entry: bytes) -> None:
        self._waiting.append(entry)

    def note(self, text: str, leaves: int) -> None:
        signed = self._evidence.verify_note(text)
        size = signed.checkpoint.size
        if not self._tree.size <= size <= leaves:
            raise MalformedError("a checkpoint of the segments is out of order", code="checkpoint")
        for entry in self._waiting[: size - self._tree.size]:
            self._tree.append(entry)
        del self._waiting[: len(self._waiting) - (leaves - size)]
        if self._tree.root != signed.checkpoint.root:
            raise EvidenceError(
                "the leaves do not give a signed root",
                code="root",
                expected=f"the root over {size} leaves",
            )
        self._last = signed
        if size - self._log.size >= _LEAVES_AT_ONCE:
            self._log.write(size, text)

    def finish(self) -> SignedNote:
        if self._last is None:
            raise UnavailableError("this boot never signed a checkpoint", code="unborn")
        if self._last.checkpoint.size > self._log.size:
            self._log.write(self._last.checkpoint.size, self._last.note)
        return self._last


def _make_new(layer: FileLayer, out: Path) -> None:
    try:
        layer.make_folder(out)
    except FileExistsError:
        raise UsageError(
            f"{out} exists", code="exists", expected="a folder that is not there yet"
        ) from None
