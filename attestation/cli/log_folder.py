"""Logs in folders: a static log, a boot's folder, or a whole data folder of a gateway."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from attestation.bundle import parse_evidence
from attestation.cli.files import list_folder, load_parsed
from attestation.errors import AttestationError, MalformedError, UnavailableError, UsageError
from attestation.log import CHECKPOINT, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.bundle import Bundle

BOOT_FILE = "boot.json"
UNBORN = "unborn"
"""The status of a boot that never served: it has no log."""
_LOG = "log"
_SEGMENTS = "segments"
_EXPIRED = ".expired"


def _nothing_to_close() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One log and where it is: `load_boot` gives the evidence found beside it, or None.

    Whoever opened a place calls `close` when it has been read.  `missing` is a boot's folder that
    has no log to be read.
    """

    name: str
    source: Source
    load_boot: Callable[[], Bundle | None]
    close: Callable[[], None] = _nothing_to_close
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What was found in a boot's own records, from which its log was made.

    `exit_code` is 10 where they are not what the boot wrote.  `leaves` is None if not counted.
    """

    boot: str
    status: str
    reason: str
    leaves: int | None
    exit_code: int


class FolderLog:
    """A static log directory: `checkpoint` and `tile/`; a `log.Source`."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, *, limit: int) -> bytes | None:
        """Return a regular file below the folder, None if there is none."""
        file = self._folder / path
        try:
            if not file.is_file():
                return None
            with file.open("rb") as opened:
                data = opened.read(limit + 1)
        except OSError as error:
            raise _unreadable(file, error) from error
        if len(data) > limit:
            raise MalformedError(
                f"{path} is too large", code="log_resource", expected=f"at most {limit} bytes"
            )
        return data


def open_folder(name: str) -> list[Place]:
    """Return the logs in a folder: itself, its `log/`, or those of the boots' folders in it.

    Boots that left records but no log are among them, as `missing`.  Raises `UsageError` if
    there is nothing at all.
    """
    if is_address(name):
        raise UsageError(
            "this is an address, and this command reads folders only",
            code="address",
            hint="pip install 'attested-gateway[client]' to read a log over the network",
        )
    folder = Path(name)
    children = list_folder(name)
    if _is_log(folder):
        return [_place(folder, folder.resolve().parent / BOOT_FILE)]
    places = [place for child in (folder, *children) for place in _boots(child)]
    if not places:
        raise UsageError(
            f"there is no log in {name!a}",
            code="file",
            expected="a folder with `checkpoint` and `tile/`, a boot's folder, or a data folder",
        )
    return places


def is_address(name: str) -> bool:
    """Return whether this is an address and no folder."""
    return "://" in name or name.startswith("unix:")


def address_of(name: str) -> str:
    """Return a folder or address as a monitor remembers it: ASCII, one for each place."""
    whole = name.rstrip("/") if is_address(name) else str(Path(name).resolve())
    return quote(os.fsencode(whole), safe="/:[]")


def in_order_of_age(places: list[Place]) -> list[Place]:
    """Return the places so that boots follow those they name, as far as their clocks say."""
    return places if len(places) == 1 else sorted(places, key=_age)


def no_records(_name: str) -> list[Records]:
    """Return nothing: reading a gateway's records takes the gateway's own code."""
    return []


def _age(place: Place) -> int:
    try:
        bundle = place.load_boot()
    except AttestationError:
        return 0  # Told when the log is looked at.
    boots = () if bundle is None else bundle.boots
    return max((boot.statement.time_claimed for boot in boots), default=0)


def _boots(folder: Path) -> list[Place]:
    """Return the log of a boot's folder, which may be missing; nothing for any other folder."""
    if _is_log(folder / _LOG):
        return [_place(folder / _LOG, folder / BOOT_FILE)]
    # What is past retention loses its files one by one.
    if (folder / _SEGMENTS).is_dir() and not folder.name.endswith(_EXPIRED):
        return [replace(_place(folder, folder / BOOT_FILE), missing=True)]
    return []


def _is_log(folder: Path) -> bool:
    try:
        return (folder / CHECKPOINT).is_file()
    except OSError as error:
        raise _unreadable(folder / CHECKPOINT, error) from error


def _unreadable(file: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot read {str(file)!a}", code="file", observed=error.strerror or "an I/O error"
    )


def _place(folder: Path, boot: Path) -> Place:
    def load_boot() -> Bundle | None:
        return load_parsed(str(boot), parse_evidence) if boot.is_file() else None

    return Place(name=str(folder), source=FolderLog(folder), load_boot=load_boot)
