"""Disks that break where a test says so, and copies of data folders that are being written."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from gateway.notary.files import FileLayer

_RECEIPT_HEADER: Final = b"eyJhbGciOiJFZERTQSIs"
"""How every receipt begins: the first bytes of its protected header."""


class BrokenSegments(FileLayer):
    """A disk whose sync of a receipt fails from the moment `broken` is set.

    What the notary writes by its own clock is spared: the export of the static log and signed
    checkpoints run beside the requests and would end the boot before the request that is meant.
    """

    def __init__(self) -> None:
        self.broken = False
        self._failing: set[int] = set()

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.broken and _RECEIPT_HEADER in bytes(data):
            self._failing.add(descriptor)
        return super().write(descriptor, data)

    def sync_data(self, descriptor: int) -> None:
        if descriptor in self._failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_data(descriptor)

    def close(self, descriptor: int) -> None:
        self._failing.discard(descriptor)
        super().close(descriptor)


def copy_while_running(data: Path, copy: Path) -> None:
    """Copy a data folder as a power loss may leave it: the static log, which lags, not at all."""
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("log"))
