"""One pass over the segments of a boot: is every record where its neighbours say it is?"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from attestation.errors import MalformedError
from attestation.merkle.note import MAX_NOTE_BYTES
from gateway.notary.log.leaves import entry_of
from gateway.notary.log.segments import (
    LEAF_KINDS,
    NO_SEGMENT_BEFORE,
    Header,
    Kind,
    Record,
    SegmentError,
    encode_record,
    iter_records,
    parse_batch,
    parse_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.notary.log.evidence import FolderEvidence
    from gateway.notary.log.scan import BootSegments

_NOTES_KEPT = 256


class BootStatus(StrEnum):
    """What became of a boot's folder."""

    WHOLE = "whole"
    TORN = "torn"
    DAMAGED = "damaged"
    SHORTENED = "shortened"
    FOREIGN = "foreign"
    UNBORN = "unborn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a boot's folder: what that makes it, and why, in words."""

    status: BootStatus
    reason: str


class Observer(Protocol):
    """Sees leaves and checkpoint notes in the order of the log."""

    def leaf(self, entry: bytes) -> None:
        """Take the next leaf's entry."""

    def note(self, text: str, leaves: int) -> None:
        """Take a checkpoint note; `leaves` stand before it."""


@dataclass(slots=True, kw_only=True)
class Walked:
    """What a pass has seen: the index after the last leaf, the newest checkpoint notes (text),
    the first thing that is wrong, and whether the file simply ended inside a record.
    """

    leaves: int = 0
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=_NOTES_KEPT))
    finding: Finding | None = None
    cut: bool = False


class SegmentWalk:
    """Reads segments in order and stops at the first record that cannot be there."""

    def __init__(self, segments: BootSegments, evidence: FolderEvidence) -> None:
        self._segments = segments
        self._evidence = evidence
        self._before: bytes | None = None
        self._batch: int | None = None
        self._observers: tuple[Observer, ...] = ()
        self.walked = Walked()

    def run(self, numbers: Sequence[int], *observers: Observer) -> Walked:
        """Read these segments, the last of which is the boot's last.  Raises OSError."""
        self._observers = observers
        self._before = NO_SEGMENT_BEFORE if numbers and numbers[0] == 0 else None
        self._batch = 0 if numbers and numbers[0] == 0 else None
        for place, number in enumerate(numbers):
            if number != numbers[0] + place:
                self._find(BootStatus.DAMAGED, f"segment {numbers[0] + place} is missing")
            else:
                self._segment(number, place, is_last=number == numbers[-1])
            if self.walked.finding is not None:
                break
        return self.walked

    def _segment(self, number: int, place: int, *, is_last: bool) -> None:
        last: Record | None = None
        try:
            with self._segments.opened(number) as read:
                for record in iter_records(read):
                    if last is None:
                        self._header(parse_header(record), number, place)
                    else:
                        self._record(record, number)
                    if self.walked.finding is not None:
                        return
                    last = record
        except SegmentError as error:
            # What was appended last may be torn in any way; nothing else is a crash's work.
            torn = is_last and not error.followed
            self.walked.cut = error.torn
            self._find(
                BootStatus.TORN if torn else BootStatus.DAMAGED,
                f"segment {number} breaks off at byte {error.offset}",
            )
        except MalformedError as error:
            self._find(BootStatus.DAMAGED, f"segment {number}: {error.message}")
        if last is not None:
            self._before = sha256(encode_record(last.kind, last.payload)).digest()

    def _header(self, header: Header, number: int, place: int) -> None:
        if header.bootseed != self._evidence.boot.statement.bootseed:
            self._find(BootStatus.FOREIGN, f"segment {number} is another boot's")
        elif header.number != number:
            self._find(BootStatus.FOREIGN, f"segment {number} is segment {header.number}, renamed")
        elif self._before not in (None, header.before):
            self._find(BootStatus.DAMAGED, f"segment {number} follows another one than is there")
        elif place == 0:
            self.walked.leaves = header.first_leaf
        elif header.first_leaf != self.walked.leaves:
            self._find(BootStatus.DAMAGED, f"segment {number} starts at another leaf")

    def _record(self, record: Record, number: int) -> None:
        if record.kind in LEAF_KINDS:
            self._leaf(record, number)
        elif record.kind is Kind.CHECKPOINT:
            # No note is longer; a record may be, and many are kept.
            text = record.payload[: MAX_NOTE_BYTES + 1].decode("utf-8", "replace")
            self.walked.notes.append(text)
            for observer in self._observers:
                observer.note(text, self.walked.leaves)
        elif record.kind is Kind.BATCH:
            batch = parse_batch(record)
            if self._batch not in (None, batch):
                self._find(BootStatus.DAMAGED, f"batch {self._batch} is not in segment {number}")
            self._batch = batch + 1
        else:
            self._find(BootStatus.DAMAGED, f"segment {number} has two headers")

    def _leaf(self, record: Record, number: int) -> None:
        is_boot = record.kind is Kind.BOOT
        if is_boot != (self.walked.leaves == 0):
            self._find(BootStatus.DAMAGED, f"segment {number} has a boot statement out of place")
        elif is_boot and record.payload != self._evidence.boot.statement.canonical:
            self._find(BootStatus.FOREIGN, "leaf 0 is another boot's statement")
        else:
            self.walked.leaves += 1
            if self._observers:
                entry = entry_of(record)
                for observer in self._observers:
                    observer.leaf(entry)

    def _find(self, status: BootStatus, reason: str) -> None:
        self.walked.finding = Finding(status=status, reason=reason)
