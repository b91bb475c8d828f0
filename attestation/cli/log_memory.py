"""The file in which a monitor remembers, and the proofs it leaves beside it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from attestation.cli.durable import write_durably
from attestation.cli.files import load_parsed
from attestation.errors import MalformedError, UsageError
from attestation.log import MonitorState, SignedCheckpoint, parse_state

if TYPE_CHECKING:
    from collections.abc import Iterator


class StateFile:
    """A monitor's state in a file that is replaced whole or not at all."""

    def __init__(self, name: str) -> None:
        self.path = Path(name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other monitors away from this file: two could put an older state back.

        Raises `UsageError` if there is another one, or no such folder.
        """
        file = self._open_lock()
        try:
            yield
        finally:
            file.close()

    def load(self) -> MonitorState:
        """Return the state, an empty one if there is no file yet."""
        if not self.path.exists():
            return MonitorState()
        try:
            # Absolute, so that a file that happens to be named "-" is not standard input.
            return load_parsed(str(self.path.absolute()), parse_state)
        except MalformedError as error:
            raise MalformedError(
                f"{self.path} is not what a monitor remembered: {error.message}",
                code=error.code,
                expected=error.expected,
                observed=error.observed,
                hint="name the monitor's own file with --state, or a new one to begin anew",
            ) from error

    def store(self, state: MonitorState) -> None:
        """Replace the file; after a crash it is the old one or the new one, on disk."""
        self._write(self.path, state.encode())

    def keep_proof(self, earlier: SignedCheckpoint, now: SignedCheckpoint) -> tuple[Path, Path]:
        """Write two contradicting checkpoints beside the state file and return their names.

        The same pair gets the same names, so that a monitor that runs on does not fill the disk.
        """
        pair = hashlib.sha256(f"{earlier.note}\0{now.note}".encode()).hexdigest()[:16]
        paths = (self._beside(pair, "earlier"), self._beside(pair, "now"))
        for path, signed in zip(paths, (earlier, now), strict=True):
            self._write(path, signed.note.encode())
        return paths

    def _beside(self, pair: str, which: str) -> Path:
        return self.path.with_name(f"{self.path.name}.conflict-{pair}-{which}.note")

    def _open_lock(self) -> BinaryIO:
        try:
            file = self.path.with_name(self.path.name + ".lock").open("ab")
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise UsageError(
                f"another monitor uses {str(self.path)!a}",
                code="state",
                observed=error.strerror or "a lock",
                hint="wait for it, or give every monitor a state file of its own",
            ) from error
        return file

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_durably(path, data)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            f"cannot use {str(self.path)!a} to remember in",
            code="state",
            observed=error.strerror or "an I/O error",
        )
