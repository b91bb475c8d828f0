"""The folder of the log of releases, as commands read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.files import list_folder, load_bytes, require_regular
from attestation.errors import EvidenceError, UsageError
from attestation.release.dsse import MAX_ENVELOPE_BYTES
from attestation.release.history import (
    ENTRY_SUFFIX,
    ReleaseLog,
    entry_name,
    read_checkpoint,
    verify_log,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.merkle.checkpoint import Checkpoint
    from attestation.merkle.note import Vkey

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLog:
    """A log that passed every step of `verify_log`, its entries' bytes, and what was known of it.

    `before` is the checkpoint that somebody kept, None if nothing was compared with one.
    """

    entries: tuple[bytes, ...]
    log: ReleaseLog
    before: Checkpoint | None


def load_log(folder: str, vkeys: Sequence[Vkey], before: str | None) -> CheckedLog:
    """Return the log in a folder, verified; with the file of an older checkpoint, against that.

    Raises what `verify_log` does, and `UsageError` for a folder that holds no log.
    """
    entries = load_entries(folder)
    place = Path(folder) / CHECKPOINT
    if not entries and not place.exists():
        raise UsageError(
            f"no release stands in {folder!a} yet: it holds neither entries nor a checkpoint",
            code="release_log",
            expected=f"{entry_name(0)} and so on, and {CHECKPOINT}",
            observed="none of them",
            hint="if releases were published, fetch the log; else there is nothing to check",
        )
    checkpoint = read_checkpoint(load_bytes(str(place)), vkeys)
    kept = None if before is None else read_checkpoint(load_bytes(before), vkeys)
    log = verify_log(entries, checkpoint, vkeys, before=kept)
    return CheckedLog(entries=tuple(entries), log=log, before=kept)


def load_entries(folder: str) -> list[bytes]:
    """Return the entries of a log, in order; a gap among their names raises `EvidenceError`."""
    places = [one for one in list_folder(folder) if one.name.endswith(ENTRY_SUFFIX)]
    for index, place in enumerate(places):
        if place.name != entry_name(index):
            raise EvidenceError(
                "an entry of the log is not there",
                code="release_log",
                expected=entry_name(index),
                observed=ascii(place.name)[:80],
                hint="fetch the log again, all of it",
            )
        require_regular(place)
    return [load_bytes(str(place), limit=MAX_ENVELOPE_BYTES) for place in places]
