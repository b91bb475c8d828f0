"""Files that are replaced whole or not at all, and are on the disk when the command goes on."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_PRIVATE: Final = 0o600


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` in place of the file at once, and return when that has reached the disk.

    Whoever reads the file meanwhile sees the old one or the new one; whoever may read and write it
    still may.  Raises OSError, and leaves nothing beside the file then.
    """
    _put(path, data, lambda partial: partial.replace(path), mode=_mode_of(path))


def write_privately(path: Path, data: bytes) -> None:
    """Do the same with a file that nobody but its owner reads or writes, whoever could before."""
    _put(path, data, lambda partial: partial.replace(path), mode=_PRIVATE)


def create_durably(path: Path, data: bytes) -> None:
    """Do the same where nothing is yet; of several at once, one makes the file.

    Raises FileExistsError where there is something, even a link that leads nowhere, and OSError.
    """

    def place(partial: Path) -> None:
        # Unlike a rename, a new link never takes the place of what is there.
        path.hardlink_to(partial)
        partial.unlink()

    _put(path, data, place)


def _mode_of(path: Path) -> int | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None


def _put(path: Path, data: bytes, place: Callable[[Path], object], mode: int | None = None) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(partial)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
