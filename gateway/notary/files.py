"""The few file-system calls the notary makes, in one place, so that tests can make each fail."""

from __future__ import annotations

import os
from pathlib import Path


class FileLayer:
    """The calls themselves.  Every method raises OSError as the system call does."""

    def make_folder(self, path: Path) -> None:
        """Make a folder that only this user can enter; its parents must exist."""
        path.mkdir(mode=0o700)

    def create(self, path: Path) -> int:
        """Create a file that must not exist yet, for reading and appending by this user only."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

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
        """Close a file."""
        os.close(descriptor)
