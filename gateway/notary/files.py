"""The few file-system calls the notary makes, in one place, so that tests can make each fail."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What the file system says of a name: kind, permission bits, bytes, last change (unix s)."""

    is_folder: bool
    is_file: bool
    mode: int
    size: int
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpace:
    """What a file system has left for this user, and whether it takes writes at all."""

    free_bytes: int
    read_only: bool


class FileLayer:
    """The calls themselves.  Every method raises OSError as the system call does.

    A descriptor is an integer that `create`, `open` or `lock_folder` gave out.  What is written
    counts as kept only after `sync_data`, a name only after `sync_folder` of its folder.
    """

    def make_folder(self, path: Path) -> None:
        """Make a folder that only this user can enter; its parents must exist."""
        path.mkdir(mode=0o700)

    def create(self, path: Path) -> int:
        """Create a file that must not exist yet, for reading and appending by this user only."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def open(self, path: Path) -> int:
        """Open an existing file for reading; a link is refused, and a pipe does not block."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append some of `data` and return how many bytes were taken."""
        return os.write(descriptor, data)

    def read_at(self, descriptor: int, length: int, offset: int) -> bytes:
        """Read at most `length` bytes from `offset`."""
        return os.pread(descriptor, length, offset)

    def sync_data(self, descriptor: int) -> None:
        """Return when what was written is on the medium."""
        os.fdatasync(descriptor)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in the folder are on the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file, or give up the lock of a folder."""
        os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name in its folder; a file of that name is replaced."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """Remove a file's name."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def list_folder(self, path: Path) -> list[str]:
        """Return the names in a folder, in no order."""
        return os.listdir(path)  # noqa: PTH208 - names, not paths

    def state(self, path: Path) -> FileState:
        """Return what a name stands for; a link is neither file nor folder."""
        found = path.lstat()
        return FileState(
            is_folder=stat.S_ISDIR(found.st_mode),
            is_file=stat.S_ISREG(found.st_mode),
            mode=stat.S_IMODE(found.st_mode),
            size=found.st_size,
            changed=found.st_mtime,
        )

    def space(self, path: Path) -> FileSpace:
        """Return what the file system of this folder has left."""
        found = os.statvfs(path)
        return FileSpace(
            free_bytes=found.f_bavail * found.f_frsize,
            read_only=bool(found.f_flag & os.ST_RDONLY),
        )

    def lock_folder(self, path: Path) -> int:
        """Lock a folder for this process, until the descriptor is closed or the process ends.

        Raises `BlockingIOError` while somebody else has the lock.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
