"""What a notary left on the disk: boot folders, records, receipts."""

from __future__ import annotations

from pathlib import Path

from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note
from gateway.notary.log.leaves import parse_receipt_payload
from gateway.notary.log.segments import LEAF_KINDS, Kind, Record, SegmentError, iter_records


def boot_folders(data: Path) -> list[Path]:
    """The folders of all boots, in the order of their names."""
    return sorted(path for path in data.iterdir() if path.is_dir())


def only_boot(data: Path) -> Path:
    """The folder of the one boot there was."""
    (folder,) = boot_folders(data)
    return folder


def segments_of(boot: Path) -> list[Path]:
    """A boot's segment files, oldest first."""
    return sorted((boot / "segments").glob("*.seg"))


def records_of(boot: Path) -> list[Record]:
    """Every whole record of a boot; a torn one at the very end is none."""
    found: list[Record] = []
    for path in segments_of(boot):
        data = path.read_bytes()
        try:
            found.extend(iter_records(lambda length, at, data=data: data[at : at + length]))  # type: ignore[misc]
        except SegmentError as fault:
            if not fault.torn or path != segments_of(boot)[-1]:
                raise
    return found


def is_at_rest(boot: Path) -> bool:
    """Whether the newest checkpoint is over all that is durable, receipts also under an epoch.

    Nothing more is written until another leaf comes, or another epoch is due.
    """
    kinds = [record.kind for record in leaves_of(boot)]
    last = records_of(boot)[-1]
    return (
        last.kind is Kind.CHECKPOINT
        and parse_checkpoint(parse_note(last.payload).text).size == len(kinds)
        and (Kind.EPOCH in kinds or Kind.RECEIPT not in kinds)
    )


def leaves_of(boot: Path) -> list[Record]:
    """The leaf records of a boot: the n-th is leaf n."""
    return [record for record in records_of(boot) if record.kind in LEAF_KINDS]


def tokens_of(boot: Path) -> list[str]:
    """The receipts of a boot in the order of the log, as tokens."""
    return [
        parse_receipt_payload(record.payload).token
        for record in records_of(boot)
        if record.kind is Kind.RECEIPT
    ]
