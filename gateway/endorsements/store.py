"""A folder of endorsements, each set a file named by its digest; nothing is ever rewritten."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.cli.durable import write_durably
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.endorsement_store import (
    MAX_STORED_BYTES,
    digest_in,
    parse_stored,
    stored_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.tdx.endorsements import Endorsements


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of a set: `stored` is False if it was there; `newer` are those it is behind."""

    stored: bool
    newer: tuple[Endorsements, ...] = ()


class EndorsementStore:
    """Reads and fills one folder.  Files of other names in it are left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> tuple[str, ...]:
        """Return the digests of the sets here, in order.

        Raises `UnavailableError` (code "endorsement_store") if the folder cannot be read.
        """
        try:
            found = [digest_in(entry.name) for entry in self.folder.iterdir()]
        except OSError as error:
            raise self._unusable("read", error) from error
        return tuple(sorted(digest for digest in found if digest is not None))

    def load(self, name: str) -> Endorsements:
        """Return the set with this digest.

        Raises `MalformedError` if the file holds something else or is no regular one,
        `UnavailableError` if it cannot be read.
        """
        path = self.folder / f"{name}.json"
        try:
            # Opening a pipe would wait for whoever never writes to it.
            if not stat.S_ISREG(path.stat().st_mode):
                raise self._broken(name, "collateral_file", "no regular file")
            with path.open("rb") as file:
                data = file.read(MAX_STORED_BYTES + 1)
        except OSError as error:
            raise self._unusable("read", error) from error
        try:
            return parse_stored(data, name)
        except MalformedError as error:
            raise self._broken(name, error.code, str(error)) from error

    def add(self, one: Endorsements) -> Added:
        """Keep a set; once this returns it is on the medium under its name.

        Sets for the same platforms that have a greater evaluation number or a later issue are
        reported.  Raises `UnavailableError`; the store is as before then.
        """
        name = one.collateral.digest.hex
        self._make_folder()
        present = self.names()
        newer = tuple(
            other for other in map(self.load, present) if other is not one and _behind(one, other)
        )
        if name in present:
            return Added(stored=False, newer=newer)
        try:
            write_durably(
                self.folder / stored_name(one.collateral.digest),
                encode_dcap_collateral(one.collateral),
            )
        except OSError as error:
            raise self._unusable("written", error) from error
        return Added(stored=True, newer=newer)

    def _make_folder(self) -> None:
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(mode=0o755)
                _sync(self.folder.parent)
        except OSError as error:
            raise self._unusable("made", error) from error

    def _broken(self, name: str, code: str, seen: str) -> MalformedError:
        return MalformedError(
            f"{self.folder / name}.json is not the set that its name says",
            code=code,
            expected="the nine fields of a set with this digest",
            observed=seen,
            hint="delete the file and fetch again",
        )

    def _unusable(self, what: str, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the endorsement store {self.folder} cannot be {what}",
            code="endorsement_store",
            observed=error.strerror or "an I/O error",
            hint="check the folder and its owner; `attested endorsements fetch --store` fills it",
        )


def _behind(one: Endorsements, other: Endorsements) -> bool:
    same_platforms = (one.fmspc, one.pce_id, one.ca) == (other.fmspc, other.pce_id, other.ca)
    return same_platforms and (one.number < other.number or one.issued < other.issued)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
