"""One look at a log from outside: checkpoint, history, entries, tiles, and what one holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, UnavailableError
from attestation.log.entries import EntryRules, Leaf
from attestation.log.history import require_extends
from attestation.log.tree import verify_tree
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import Vkey, parse_note, verify_note
from attestation.merkle.tiles import inclusion_path_from_tiles
from attestation.merkle.tree import leaf_hash, verify_inclusion

if TYPE_CHECKING:
    from attestation.log.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose signature by its own log has been verified, and the note it stood in."""

    checkpoint: Checkpoint
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What somebody outside holds of a log: checkpoints seen, and (index, 33-byte entry)."""

    checkpoints: tuple[SignedCheckpoint, ...] = ()
    entries: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What was found to hold.

    `counts` are the entries read, by type, from index `read_from` on.  `consistent` are the sizes
    of the earlier checkpoints that this log continues.  Of the entries held, `included` are in
    the log and `beyond` have an index that it has not reached.
    """

    signed: SignedCheckpoint
    read_from: int
    counts: Mapping[Leaf, int]
    consistent: tuple[int, ...]
    included: int
    beyond: tuple[int, ...]


def read_checkpoint(note: str | bytes, vkey: Vkey) -> SignedCheckpoint:
    """Return the checkpoint of a note, which the log `vkey` has signed about itself.

    Raises `MalformedError`, or `EvidenceError` (codes "note_signature" and "origin").
    """
    parsed = parse_note(note)
    verify_note(parsed, [vkey])
    checkpoint = parse_checkpoint(parsed.text)
    if checkpoint.origin != vkey.name:
        raise EvidenceError(
            "the checkpoint is about another log than the one that signed it",
            code="origin",
            expected=vkey.name,
            observed=checkpoint.origin,
        )
    text = note if isinstance(note, str) else note.decode("utf-8")
    return SignedCheckpoint(checkpoint=checkpoint, note=text)


def audit_log(
    resources: Resources,
    signed: SignedCheckpoint,
    *,
    held: Held,
    since: int = 0,
    max_entries: int | None = None,
) -> LogReport:
    """Check everything about a log that its checkpoint commits to.

    1. The log continues every checkpoint held.
    2. Entries and tiles lead to the signed root (`verify_tree`); those before `since`, which
       somebody has read and checked before, are represented by their hashes.
    3. Every entry read is one that a gateway writes (`EntryRules`).
    4. Every entry held is in the log at its index.

    A log may sign any size and make up entries for ever.  One with more than `max_entries` to be
    read is `UnavailableError` (code "log_length") after step 1; None reads whatever there is.

    Raises `EvidenceError`, `MalformedError`, and what the source raises.
    """
    now = signed.checkpoint
    for earlier in held.checkpoints:
        require_extends(resources, earlier.checkpoint, now)
    if max_entries is not None and now.size - since > max_entries:
        raise UnavailableError(
            "the log is longer than this look may read",
            code="log_length",
            expected=f"at most {max_entries} entries that were not read before",
            observed=f"{now.size - since}",
            hint="nothing of them was checked; if the log really is that long, allow more",
        )
    rules = EntryRules()
    verify_tree(resources, now, since=since, see=rules.see)
    reached = [(index, entry) for index, entry in held.entries if index < now.size]
    for index, entry in reached:
        _require_included(resources, now, index, entry)
    counts = rules.counts
    return LogReport(
        signed=signed,
        read_from=now.size - sum(counts.values()),
        counts=counts,
        consistent=tuple(sorted(earlier.checkpoint.size for earlier in held.checkpoints)),
        included=len(reached),
        beyond=tuple(sorted(index for index, _ in held.entries if index >= now.size)),
    )


def _require_included(resources: Resources, now: Checkpoint, index: int, entry: bytes) -> None:
    verify_inclusion(
        leaf_hash=leaf_hash(entry),
        index=index,
        size=now.size,
        path=inclusion_path_from_tiles(index, now.size, resources.read_tile),
        root=now.root,
    )
