"""The file in which verifications remember the newest endorsements that they have seen."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.cli.durable import write_durably
from attestation.cli.files import load_parsed
from attestation.errors import MalformedError, UsageError
from attestation.verifier import HighWater, parse_high_water

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attestation.result import AttestationResult


class HighWaterFile:
    """A high-water mark in a file that is replaced whole or not at all, and is only ever raised.

    Several verifications may use one file at the same time: each raises what it finds there.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name)

    def open(self) -> HighWater:
        """Return what is remembered; a missing file is made, and stderr says so.

        Raises `MalformedError` for a file that is something else, `UsageError` for one that
        could not be written later.
        """
        # Before there is a lock: what is no such file keeps no lock beside it either.
        if self.path.exists():
            return self._load()
        with self._locked():
            if self.path.exists():
                return self._load()
            self._store(HighWater())
        print(f"attested: {str(self.path)!a} is new: nothing was seen before", file=sys.stderr)
        return HighWater()

    def raise_by(self, results: Iterable[AttestationResult]) -> None:
        """Remember the endorsements behind every quote that was found genuine."""
        endorsed = [one for result in results for one in result.endorsed]
        with self._locked():
            known = self._load()
            raised = known.raised(endorsed)
            if raised != known:
                self._store(raised)

    def _load(self) -> HighWater:
        try:
            # Absolute, so that a file that happens to be named "-" is not standard input.
            return load_parsed(str(self.path.absolute()), parse_high_water)
        except MalformedError as error:
            error.hint = "name the file that --high-water made, or a new one to begin anew"
            raise

    def _store(self, mark: HighWater) -> None:
        try:
            write_durably(self.path, mark.encode())
        except OSError as error:
            raise self._unusable(error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others from replacing the file between reading and writing it."""
        try:
            file = self.path.with_name(self.path.name + ".lock").open("ab")
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _unusable(self, error: Exception) -> UsageError:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        return UsageError(
            f"cannot use {str(self.path)!a} as a high-water file",
            code="high_water",
            observed=reason or "an I/O error",
            hint="it and a lock file beside it have to be written",
        )
