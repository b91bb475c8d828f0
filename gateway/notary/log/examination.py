"""One boot folder under examination: evidence first, then its tail, or all of it."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from attestation.errors import AttestationError, MalformedError
from attestation.statement import PreviousBoot
from attestation.tdx.signatures import own_checks
from gateway.notary.log.evidence import FolderEvidence, load_evidence, load_exported_note
from gateway.notary.log.export import tile_loader
from gateway.notary.log.folder import BOOT_FILE, LOG, ROOT_FILE, SEGMENTS
from gateway.notary.log.roots import RootCheck
from gateway.notary.log.scan import BootSegments
from gateway.notary.log.segments import Kind, iter_records
from gateway.notary.log.tree import TileTree
from gateway.notary.log.walk import BootStatus, Finding, SegmentWalk, Walked

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.evidence import SignedNote

_OWN_NAMES = frozenset({BOOT_FILE, ROOT_FILE, SEGMENTS, LOG})
_RECORDS_BEFORE_SERVING = 16


class Depth(StrEnum):
    """How much of a boot folder was read."""

    EVIDENCE = "evidence"
    TAIL = "tail"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedBoot:
    """What was found in one boot folder.

    `leaves` is None where the segments were not read; `checkpoint` is the last one that its own
    key signed, among what was read; `retired` counts the oldest segments that are no longer kept.
    """

    name: str
    status: BootStatus
    reason: str
    depth: Depth
    leaves: int | None
    retired: int
    checkpoint: SignedNote | None
    evidence: FolderEvidence | None

    @property
    def previous(self) -> PreviousBoot | None:
        """What a boot that follows this one says of it; None if it has no signed checkpoint."""
        if self.evidence is None or self.checkpoint is None:
            return None
        return self.evidence.named_by_successor(self.checkpoint)


class Examination:
    """Reads one boot folder, never writes.  What cannot be read becomes a finding.

    `trouble` is the last error of the disk: then the findings may be wrong about the boot.
    """

    def __init__(self, layer: FileLayer, folder: Path, leaves_seen: int) -> None:
        """Read the evidence and find out whether the boot ever served.

        `leaves_seen` is how many leaves an index once saw in this log.
        """
        self._layer = layer
        self._folder = folder
        self._segments = BootSegments(layer, folder)
        self._expected = leaves_seen
        self._claimed: list[SignedNote] = []
        self._last: SignedNote | None = None
        self._findings: list[Finding] = []
        self._walked: Walked | None = None
        self._depth = Depth.EVIDENCE
        self.trouble: OSError | None = None
        self._numbers = self._list_segments()
        self.evidence = self._load_evidence()
        self._exported = (
            load_exported_note(layer, folder, self.evidence) if self.evidence is not None else None
        )
        self._disowned = False
        if self._exported is not None:
            self._vouch(self._exported)
        self._signed_early = self._exported is None and self._has_early_checkpoint()

    @property
    def is_born(self) -> bool:
        """Whether a checkpoint was seen that the boot's own key signed: only then it served."""
        return not self._disowned and (self._last is not None or self._signed_early)

    def claim(self, previous: PreviousBoot) -> None:
        """Take what a successor says of this boot; only what this boot's key signed counts."""
        if self.evidence is None or previous.quote_digest != self.evidence.quote.digest:
            return
        try:
            self._vouch(self.evidence.verify_note(previous.checkpoint))
        except AttestationError:
            return

    def read_tail(self) -> None:
        """Read the last segment, or as many as it takes to find a signed checkpoint."""
        if self.evidence is None:
            return
        self._depth = Depth.TAIL
        self._require_signed_quote(self.evidence)
        for start in range(len(self._numbers) - 1, -1, -1):
            walked = self._walk(self.evidence, self._numbers[start:])
            last = self._newest_signed(self.evidence, walked)
            if last is not None:
                self._vouch(last)
                break

    def read_whole(self) -> None:
        """Read every record, and recompute the tree beside it."""
        if self.evidence is None:
            return
        self._depth = Depth.WHOLE
        self._require_signed_quote(self.evidence)
        tree = self._tree_before(self._numbers)
        if tree is None:
            self._walk(self.evidence, self._numbers)
            return
        check = RootCheck(self.evidence, tree, self._claimed)
        walked = self._walk(self.evidence, self._numbers, check)
        check.finish()
        if check.last is not None:
            self._vouch(check.last)
        if check.finding is not None and walked.finding is None:
            self._findings.append(check.finding)

    def result(self) -> SurveyedBoot:
        """Return what all that was read amounts to."""
        finding = self._verdict()
        return SurveyedBoot(
            name=self._folder.name,
            status=finding.status,
            reason=finding.reason,
            depth=self._depth,
            leaves=None if self._walked is None else self._walked.leaves,
            retired=self._numbers[0] if self._numbers else 0,
            checkpoint=None if self._disowned else self._last,
            evidence=self.evidence,
        )

    def _verdict(self) -> Finding:
        findings = [*self._findings, *self._shortened()]
        if not self.is_born:
            findings.append(self._unsigned())
        for status in (
            BootStatus.FOREIGN,
            BootStatus.DAMAGED,
            BootStatus.SHORTENED,
            BootStatus.UNBORN,
            BootStatus.TORN,
        ):
            for finding in findings:
                if finding.status is status:
                    return finding
        return Finding(status=BootStatus.WHOLE, reason="")

    def _shortened(self) -> list[Finding]:
        walked = self._walked
        if walked is None or walked.leaves >= self._expected:
            return []
        wrong = walked.finding is not None and not walked.cut
        return [
            Finding(
                status=BootStatus.DAMAGED if wrong else BootStatus.SHORTENED,
                reason=f"{walked.leaves} leaves can be read, there were {self._expected}",
            )
        ]

    def _unsigned(self) -> Finding:
        if self._walked is not None and self._walked.leaves > 1:
            return Finding(status=BootStatus.FOREIGN, reason="no checkpoint is signed")
        return Finding(status=BootStatus.UNBORN, reason="it never signed a checkpoint")

    def _load_evidence(self) -> FolderEvidence | None:
        try:
            evidence = load_evidence(self._layer, self._folder)
            names = set(self._layer.list_folder(self._folder)) - _OWN_NAMES
        except (OSError, AttestationError) as error:
            self._note_trouble(error)
            if self._numbers:
                self._find(BootStatus.DAMAGED, f"{BOOT_FILE} cannot be used")
            return None
        if evidence.name != self._folder.name:
            self._find(BootStatus.FOREIGN, f"{BOOT_FILE} is the boot {evidence.name}'s")
            return None
        if names:
            self._find(BootStatus.FOREIGN, f"unknown names: {', '.join(sorted(names)[:3])}")
        return evidence

    def _list_segments(self) -> list[int]:
        try:
            strangers = self._segments.strangers()
            if strangers:
                self._find(BootStatus.FOREIGN, f"unknown names: {', '.join(strangers[:3])}")
            return self._segments.numbers()
        except OSError as error:
            self._note_trouble(error)
            return []

    def _has_early_checkpoint(self) -> bool:
        if self.evidence is None or not self._numbers:
            return False
        try:
            with self._segments.opened(self._numbers[0]) as read:
                for place, record in enumerate(iter_records(read)):
                    if record.kind is Kind.CHECKPOINT:
                        self.evidence.verify_note(record.payload.decode("utf-8"))
                        return True
                    if place >= _RECORDS_BEFORE_SERVING:
                        break
        except (OSError, UnicodeDecodeError, AttestationError) as error:
            self._note_trouble(error)
            return False
        return False

    def _require_signed_quote(self, evidence: FolderEvidence) -> None:
        checks = own_checks(evidence.quote)
        if False in (checks.body_sig, checks.ak_binding, checks.qe_sig, checks.chain):
            self._find(BootStatus.FOREIGN, "the signatures of its quote do not hold")
            self._disowned = True

    def _walk(self, evidence: FolderEvidence, numbers: list[int], *observers: RootCheck) -> Walked:
        walk = SegmentWalk(self._segments, evidence)
        try:
            walked = walk.run(numbers, *observers)
        except OSError as error:
            self._note_trouble(error)
            walked = walk.walked
            reason = f"a segment cannot be read: {error.strerror or 'an I/O error'}"
            walked.finding = Finding(status=BootStatus.DAMAGED, reason=reason)
        if walked.finding is not None and walked.finding not in self._findings:
            self._findings.append(walked.finding)
        self._walked = walked
        return walked

    def _newest_signed(self, evidence: FolderEvidence, walked: Walked) -> SignedNote | None:
        for text in reversed(walked.notes):
            try:
                return evidence.verify_note(text)
            except AttestationError:
                self._find(BootStatus.FOREIGN, "a checkpoint is not signed by this log's key")
        return None

    def _tree_before(self, numbers: list[int]) -> TileTree | None:
        """Return the tree of the leaves before the first segment, None if it is not there."""
        tree = TileTree(tile_loader(self._layer, self._folder / LOG))
        try:
            if numbers and numbers[0] > 0:
                header = self._segments.header(numbers[0])
                tree.resume(header.first_leaf, tile_loader(self._layer, self._folder / LOG))
        except (OSError, MalformedError, AttestationError):
            return None
        return tree

    def _vouch(self, signed: SignedNote) -> None:
        self._claimed.append(signed)
        self._expected = max(self._expected, signed.checkpoint.size)
        if self._last is None or signed.checkpoint.size > self._last.checkpoint.size:
            self._last = signed

    def _note_trouble(self, error: Exception) -> None:
        """Keep an error of the disk, as opposed to what is missing or is not what it should be."""
        missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
        if isinstance(error, OSError) and not isinstance(error, missing):
            self.trouble = None if error.errno == errno.ELOOP else error

    def _find(self, status: BootStatus, reason: str) -> None:
        self._findings.append(Finding(status=status, reason=reason))
