"""The file in which verifications remember the newest endorsements that they have seen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from attestation.cli.durable import create_durably, write_durably
from attestation.cli.files import load_parsed
from attestation.errors import MalformedError, UsageError
from attestation.verifier import HighWater, parse_high_water

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from attestation.policy import Policy
    from attestation.tdx.endorsed import Endorsed


class HighWaterFile:
    """A high-water mark in a file that is replaced whole or not at all, and is only ever raised.

    Several verifications may use one file at the same time: each raises what it finds there.
    """

    def __init__(self, name: str) -> None:
        self.path = Path(name)

    def open(self, policy: Policy | None = None) -> HighWater:
        """Return what is remembered; a missing file is made, and stderr says so.

        A `policy` whose signature was checked must not be older than what is remembered of its
        signers (`HighWater.after`), and is remembered at once: it is theirs, whatever it is used
        on.  Raises `MalformedError` for a file that is something else, `UsageError` for one that
        could not be written later.
        """
        self._make_if_missing()
        # It is locked, for writing, with nothing to write too: better refused here than when the
        # result has been printed.
        with self._locked():
            return self._raised(lambda known: known.after(policy) if policy else known)

    def _make_if_missing(self) -> None:
        # Whatever else is wrong with the name, making the file says it.
        if not os.path.exists(self.path):  # noqa: PTH110 - raises for no name
            try:
                create_durably(self.path, HighWater().encode())
            except FileExistsError:
                # Another verification made it meanwhile.
                return
            except (OSError, ValueError) as error:
                raise self._unusable(error) from error
            print(f"attested: {str(self.path)!a} is new: nothing was seen before", file=sys.stderr)

    def raise_by(self, endorsed: Iterable[Endorsed]) -> None:
        """Remember what endorsements stood behind quotes that were found genuine."""
        with self._locked():
            self._raised(lambda known: known.raised(endorsed))

    def _raised(self, by: Callable[[HighWater], HighWater]) -> HighWater:
        known = self._load()
        raised = by(known)
        if raised != known:
            self._store(raised)
        return raised

    def _load(self) -> HighWater:
        try:
            # Absolute, so that a file that happens to be named "-" is not standard input.
            return load_parsed(str(self.path.absolute()), parse_high_water)
        except MalformedError as error:
            error.hint = "name the file that --high-water made, or a new one to begin anew"
            raise

    def _store(self, mark: HighWater) -> None:
        try:
            # Through a link, as it was read: replaced itself, it would leave the file that it names
            # behind, in which older ones could be used again.
            write_durably(Path(os.path.realpath(self.path)), mark.encode())
        except OSError as error:
            raise self._unusable(error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep others from replacing the file between reading and writing it.

        The file itself is locked, so that nothing is left beside it.  A lock on a file that was
        replaced while it was waited for keeps nobody out: then the new one is locked.
        """
        while True:
            with self._opened() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if self._is_here(file):
                    yield
                    return

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("r+b")
        except OSError as error:
            raise self._unusable(error) from error

    def _is_here(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> UsageError:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        return UsageError(
            f"cannot use {str(self.path)!a} as a high-water file",
            code="high_water",
            observed=reason or "an I/O error",
            hint="the file has to be written, and replaced in its folder",
        )
