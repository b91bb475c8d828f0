"""The append-only log of releases: signed envelopes in order, and a signed checkpoint over them.

The entries are the leaves of an RFC 6962 tree; the checkpoint is a C2SP one, signed by the release
key.  Whoever kept an older checkpoint sees whether what it covered is still there, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attestation.encoding.counts import counted
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.merkle.tree import leaf_hash, root_hash
from attestation.release.dsse import parse_envelope
from attestation.release.statement import Release, parse_release, verify_release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attestation.merkle.note import Vkey
    from attestation.merkle.note_key import NoteKey

ENTRY_SUFFIX = ".dsse.json"
_EITHER: Final = (
    "a download that broke looks the same: fetch the log again; if it stays so, keep it, and the "
    "checkpoint with it"
)


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
    _require_covered(entries, checkpoint, vkeys)
    releases = tuple(_read_entries(entries, vkeys))
    seen: dict[tuple[str, str], str] = {}
    for index, release in enumerate(releases):
        name = (release.version, release.profile)
        if name in seen:
            raise EvidenceError(
                "a version stands in the log of releases twice",
                code="release_log",
                expected="each version of a profile once",
                observed=f"{name[0]} ({name[1]}) in {seen[name]} and {entry_name(index)}",
                hint="keep both entries: the release key signed two images under one name",
            )
        seen[name] = entry_name(index)
    if before is not None:
        _require_grown(entries, checkpoint, before)
    return ReleaseLog(checkpoint=checkpoint, releases=releases)


def require_in_log(entries: Sequence[bytes], log: ReleaseLog, entry: bytes) -> int:
    """Return the place of this very release, byte for byte, among the entries of a verified log.

    Raises `EvidenceError` (code "release_log"); it names the entry that has the same version.
    """
    if entry in entries:
        return entries.index(entry)
    payload = parse_envelope(entry).payload
    here = parse_release(payload)
    for index, release in enumerate(log.releases):
        if (release.version, release.profile) == (here.version, here.profile):
            same = parse_envelope(entries[index]).payload == payload
            raise _unlisted(
                f"the same statement with other signatures in {entry_name(index)}"
                if same
                else f"another release {here.version} ({here.profile}) in {entry_name(index)}",
                "take the file from the log"
                if same
                else "keep both: the release key signed two images under one name",
            )
    raise _unlisted(
        f"no {here.version} ({here.profile}) among its {counted(len(entries), 'release')}",
        "fetch the log again, it may have grown; rely on no release that is not in it",
    )


def _unlisted(observed: str, hint: str) -> EvidenceError:
    return EvidenceError(
        "this release does not stand in the log of releases",
        code="release_log",
        expected="an entry that is this file, byte for byte",
        observed=observed,
        hint=hint,
    )


def _read_entries(entries: Sequence[bytes], vkeys: Sequence[Vkey]) -> Iterator[Release]:
    """Yield the release in each entry; a refusal names the entry."""
    for index, entry in enumerate(entries):
        try:
            yield verify_release(parse_envelope(entry), vkeys)[0]
        except (EvidenceError, MalformedError) as error:
            raise type(error)(
                f"{entry_name(index)}: {error.message}",
                code=error.code,
                expected=error.expected,
                observed=error.observed,
                hint=error.hint,
            ) from error


def _require_covered(
    entries: Sequence[bytes], checkpoint: Checkpoint, vkeys: Sequence[Vkey]
) -> None:
    if checkpoint_over(checkpoint.origin, entries) == checkpoint:
        return
    fewer_or_more = len(entries) != checkpoint.size
    raise EvidenceError(
        "entries and checkpoint of the log of releases do not belong together",
        code="release_log",
        expected=f"the {counted(checkpoint.size, 'release')} that the checkpoint covers, in order",
        observed=f"{len(entries)}" if fewer_or_more else _what_differs(entries, vkeys),
        hint=_EITHER,
    )


def _what_differs(entries: Sequence[bytes], vkeys: Sequence[Vkey]) -> str:
    """A checkpoint does not say which entry it misses; one that is no release gives itself away."""
    try:
        count = len(list(_read_entries(entries, vkeys)))
    except (EvidenceError, MalformedError) as error:
        return error.message
    return f"{counted(count, 'signed release')}, of which some are others or in another order"


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
