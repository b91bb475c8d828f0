"""Logs in folders: a static log, a boot's folder, or a whole data folder of a gateway."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.bundle import parse_evidence
from attestation.cli.files import list_folder, load_parsed
from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.log import CHECKPOINT, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.bundle import Bundle

BOOT_FILE = "boot.json"
_LOG = "log"
_SEGMENTS = "segments"


def _nothing_to_close() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One log and where it is: `load_boot` gives the evidence found beside it, or None.

    Whoever opened a place calls `close` when it has been read.
    """

    name: str
    source: Source
    load_boot: Callable[[], Bundle | None]
    close: Callable[[], None] = _nothing_to_close


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

    Raises `UsageError` if there is none.  Boots that left records but no log are named on
    standard error: nothing of theirs is checked.
    """
    if "://" in name or name.startswith("unix:"):
        raise UsageError(
            "this is an address, and this command reads folders only",
            code="address",
            hint="pip install 'attested-gateway[client]' to read a log over the network",
        )
    folder = Path(name)
    children = list_folder(name)
    if _is_log(folder):
        return [_place(folder, folder.resolve().parent / BOOT_FILE)]
    if _is_log(folder / _LOG):
        return [_place(folder / _LOG, folder / BOOT_FILE)]
    for child in children:
        if not _is_log(child / _LOG) and (child / _SEGMENTS).is_dir():
            print(f"{str(child)!a} has no log: nothing of this boot is checked", file=sys.stderr)
    places = [
        _place(child / _LOG, child / BOOT_FILE) for child in children if _is_log(child / _LOG)
    ]
    if not places:
        raise UsageError(
            f"there is no log in {name!a}",
            code="file",
            expected="a folder with `checkpoint` and `tile/`, a boot's folder, or a data folder",
        )
    return places


def no_records(_name: str) -> list[Records]:
    """Return nothing: reading a gateway's records takes the gateway's own code."""
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
