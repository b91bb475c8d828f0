"""One look at one log: by itself, or after what a monitor remembers of it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from attestation.cli.log_continuity import connect
from attestation.cli.log_key import LogKey, find_key
from attestation.cli.log_limits import TimedSource
from attestation.cli.log_report import Looked
from attestation.errors import EvidenceError
from attestation.log import (
    CONFLICTS,
    MonitorState,
    Resources,
    SignedCheckpoint,
    audit_log,
    read_checkpoint,
    require_extends,
    require_not_behind,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from attestation.cli.log_folder import Place
    from attestation.cli.log_memory import StateFile


def verify_log(args: argparse.Namespace, place: Place) -> Looked:
    """Check a log as it stands.

    1. Find the key, and check its boot's quote if that was asked for.
    2. The checkpoint is signed by that key.
    3. Everything that the checkpoint commits to (`audit_log`), and what the bundle holds of it.

    Raises `AttestationError`.
    """
    resources = Resources(TimedSource(place.source, args.timeout))
    note = resources.checkpoint()
    key = find_key(args, place, note)
    signed = read_checkpoint(note, key.vkey)
    report = audit_log(resources, signed, held=key.held, max_entries=args.max_entries)
    return Looked(name=place.name, key=key, report=report)


def monitor_log(
    args: argparse.Namespace,
    place: Place,
    file: StateFile,
    state: MonitorState,
    *,
    address: str,
    known_place: bool,
) -> tuple[Looked, MonitorState]:
    """Check a log after what `state` remembers; return what to remember next.

    `known_place` says whether a log had been seen at `address` before this round of looks.

    1. to 2. as `verify_log`.
    3. The log continues the checkpoint that was remembered, and the log of the boot before it, as
       far as its statement tells and that one was seen.  What contradicts is kept as proof.
    4. As step 3 of `verify_log`, from where the last look ended.
    5. One never seen is connected with those that were (`connect`).

    Raises `AttestationError`; `state` then stays as it was.
    """
    resources = Resources(TimedSource(place.source, args.timeout))
    note = resources.checkpoint()
    key = find_key(args, place, note)
    signed = read_checkpoint(note, key.vkey)
    last = state.last(key.vkey)
    if last is not None:
        with _proof_kept(file, last, signed):
            require_extends(resources, last.checkpoint, signed.checkpoint)
    follows = _predecessor(file, state, key)
    since = 0 if last is None or args.whole else last.checkpoint.size
    report = audit_log(resources, signed, held=key.held, since=since, max_entries=args.max_entries)
    connection = connect(state, key, follows, known_place=known_place, asked=args.accept_new_log)
    looked = Looked(name=place.name, key=key, report=report, before=last, connection=connection)
    accepted = connection.accepted
    return looked, state.remember(key.vkey, signed, address=address, accepted=accepted)


def _predecessor(file: StateFile, state: MonitorState, key: LogKey) -> str | None:
    """Return the origin of the log the boot follows, None if it was never seen.

    A boot names the last checkpoint of the one before: it must not be older than ours.
    """
    known = None if key.previous is None else state.predecessor(key.previous)
    if known is None:
        return None
    with _proof_kept(file, *known):
        require_not_behind(*(signed.checkpoint for signed in known))
    return known[0].checkpoint.origin


@contextlib.contextmanager
def _proof_kept(
    file: StateFile, earlier: SignedCheckpoint, now: SignedCheckpoint
) -> Iterator[None]:
    try:
        yield
    except EvidenceError as error:
        if error.code in CONFLICTS:
            for path in file.keep_proof(earlier, now):
                print(f"kept as proof: {path}", file=sys.stderr)
        raise
