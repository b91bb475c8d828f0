"""Disks that break where a test says so, and copies of data folders that are being written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from gateway.notary.files import FileLayer


class BrokenSegments(FileLayer):
    """A disk whose sync of the receipts' segments fails from the moment `broken` is set.

    The static log is spared: its export runs beside the requests and would end the boot first.
    """

    def __init__(self) -> None:
        self.broken = False
        self._segments: set[int] = set()

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        if path.parent.name == "segments":
            self._segments.add(descriptor)
        return descriptor

    def sync_data(self, descriptor: int) -> None:
        if self.broken and descriptor in self._segments:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(descriptor)

    def close(self, descriptor: int) -> None:
        self._segments.discard(descriptor)
        super().close(descriptor)


def copy_while_running(data: Path, copy: Path) -> None:
    """Copy a data folder as a power loss may leave it: the static log, which lags, not at all."""
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("log"))
