"""What a boot folder shows for itself: boot.json, and checkpoints under that boot's log key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.bundle import MAX_BUNDLE_BYTES, Bundle, parse_bundle
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import MAX_NOTE_BYTES, parse_note, verify_note
from attestation.statement import PreviousBoot
from attestation.tdx.quote import parse_quote
from gateway.notary.log.folder import (
    BOOT_FILE,
    CHECKPOINT,
    LOG,
    boot_folder_name,
    read_file,
)

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.bundle import BootEvidence
    from attestation.tdx.quote import Quote
    from gateway.notary.files import FileLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedNote:
    """A checkpoint that its own log's key has signed, and the note it stands in."""

    checkpoint: Checkpoint
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderEvidence:
    """The evidence of one boot as its folder holds it; quote and keyset belong to its statement.

    Nothing here says that the quote is genuine.
    """

    bundle: Bundle
    quote: Quote

    @property
    def boot(self) -> BootEvidence:
        """The boot."""
        return self.bundle.boots[0]

    @property
    def name(self) -> str:
        """The name its folder must have."""
        return boot_folder_name(self.boot.statement.bootseed)

    @property
    def prev(self) -> PreviousBoot | None:
        """The boot that this one names as the one before it."""
        return self.boot.statement.prev

    @property
    def age_order(self) -> tuple[int, bytes]:
        """Boots sort by the time they claim, then by bootseed."""
        return self.boot.statement.time_claimed, self.boot.statement.bootseed

    def verify_note(self, text: str) -> SignedNote:
        """Return the checkpoint in a note that this boot's log key signed.

        Raises `EvidenceError`, or `MalformedError` for what is no checkpoint of three lines.
        """
        note = parse_note(text)
        verify_note(note, [self.boot.keyset.log_key])
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin != self.boot.statement.log_origin:
            raise EvidenceError(
                "the checkpoint is of another log",
                code="origin",
                expected=self.boot.statement.log_origin,
                observed=checkpoint.origin,
            )
        return SignedNote(checkpoint=checkpoint, note=text)

    def named_by_successor(self, last: SignedNote) -> PreviousBoot:
        """Return what the next boot says of this one."""
        return PreviousBoot(checkpoint=last.note, quote_digest=self.quote.digest)


def load_evidence(layer: FileLayer, folder: Path) -> FolderEvidence:
    """Read and parse the boot.json of a boot folder.

    1. an audit bundle of exactly one boot
    2. keyset and log key are those that the statement names
    3. the quote reports this statement

    Raises OSError, `MalformedError` or `EvidenceError`; that the folder has the boot's name is
    the caller's question.
    """
    bundle = parse_bundle(read_file(layer, folder / BOOT_FILE, MAX_BUNDLE_BYTES))
    if len(bundle.boots) != 1:
        raise MalformedError(
            "the evidence of a boot folder is not one boot's",
            code="boot_file",
            expected="exactly one boot",
            observed=f"{len(bundle.boots)}",
        )
    boot = bundle.boots[0]
    quote = parse_quote(boot.quote)
    agreed = (
        boot.keyset.digest == boot.statement.keyset_digest,
        boot.keyset.log_key.name == boot.statement.log_origin,
        quote.body.report_data == boot.statement.report_data,
    )
    if not all(agreed):
        raise EvidenceError(
            "the evidence of a boot folder contradicts itself",
            code="boot_file",
            expected="statement, keyset and quote of one boot",
        )
    return FolderEvidence(bundle=bundle, quote=quote)


def load_exported_note(
    layer: FileLayer, folder: Path, evidence: FolderEvidence
) -> SignedNote | None:
    """Return the checkpoint of the static export, None if there is none that verifies."""
    try:
        text = read_file(layer, folder / LOG / CHECKPOINT, MAX_NOTE_BYTES).decode("utf-8")
        return evidence.verify_note(text)
    except (OSError, UnicodeDecodeError, MalformedError, EvidenceError):
        return None


def predecessor_of(evidence: FolderEvidence) -> tuple[str, PreviousBoot] | None:
    """Return the folder name of the boot that this one names as `prev`, and what it says of it."""
    if evidence.prev is None:
        return None
    checkpoint = parse_checkpoint(parse_note(evidence.prev.checkpoint).text)
    return checkpoint.origin.rpartition("/")[2], evidence.prev
