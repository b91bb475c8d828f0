"""The append-only log of releases: signed envelopes in order, and a signed checkpoint over them.

The entries are the leaves of an RFC 6962 tree; the checkpoint is a C2SP one, signed by the release
key.  Whoever kept an older checkpoint sees whether what it covered is still there, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.merkle.tree import leaf_hash, root_hash
from attestation.release.dsse import parse_envelope
from attestation.release.statement import Release, verify_release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.merkle.note import Vkey
    from attestation.merkle.note_key import NoteKey

ENTRY_SUFFIX = ".dsse.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseLog:
    """A log that was verified: its checkpoint and its releases, oldest first."""

    checkpoint: Checkpoint
    releases: tuple[Release, ...]


def entry_name(index: int) -> str:
    """Return the file name of an entry: eight digits, ascending."""
    return f"{index:08d}{ENTRY_SUFFIX}"


def checkpoint_over(origin: str, entries: Sequence[bytes]) -> Checkpoint:
    """Return the state of the log that has these entries."""
    root = root_hash([leaf_hash(entry) for entry in entries])
    return Checkpoint(origin=origin, size=len(entries), root=root)


def sign_checkpoint(checkpoint: Checkpoint, key: NoteKey) -> bytes:
    """Return the checkpoint's file: a signed note."""
    return key.sign(checkpoint.text).encode()


def read_checkpoint(data: bytes, vkeys: Sequence[Vkey]) -> Checkpoint:
    """Return a checkpoint that one of the listed keys signed.

    Raises `EvidenceError` and `MalformedError`.
    """
    note = parse_note(data)
    verify_note(note, vkeys)
    return parse_checkpoint(note.text)


def verify_log(
    entries: Sequence[bytes],
    checkpoint: Checkpoint,
    vkeys: Sequence[Vkey],
    *,
    before: Checkpoint | None = None,
) -> ReleaseLog:
    """Return the log whose entries these are.

    1. the checkpoint covers these entries, all of them and in this order
    2. every entry is a release that a listed key signed (`verify_release`)
    3. no version of a profile stands there twice: a release is never replaced
    4. with an older checkpoint: same origin, not more entries, and its root over the first ones

    Raises `EvidenceError` (code "release_log" beside those of the steps), `MalformedError`.
    """
    if checkpoint_over(checkpoint.origin, entries) != checkpoint:
        raise _broken("the entries that the checkpoint covers", "others")
    releases = tuple(verify_release(parse_envelope(entry), vkeys)[0] for entry in entries)
    seen: set[tuple[str, str]] = set()
    for release in releases:
        name = (release.profile, release.version)
        if name in seen:
            raise _broken("each version of a profile once", " ".join(name))
        seen.add(name)
    if before is not None:
        _require_grown(entries, checkpoint, before)
    return ReleaseLog(checkpoint=checkpoint, releases=releases)


def _require_grown(entries: Sequence[bytes], now: Checkpoint, before: Checkpoint) -> None:
    if before.origin != now.origin:
        raise _broken(f"the log {before.origin!a}", ascii(now.origin))
    if before.size > now.size:
        raise _broken(f"at least {before.size} entries, as before", f"{now.size}")
    if checkpoint_over(before.origin, entries[: before.size]) != before:
        raise _broken("the entries of the older checkpoint, unchanged", "others")


def _broken(expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        "the log of releases is not one that only grew",
        code="release_log",
        expected=expected,
        observed=observed,
        hint="keep both states: together they show that its keeper changed what was published",
    )
