"""The disk alone: a bare loop of write + fdatasync, the yardstick for everything durable."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import latencies
from gateway.notary.files import FileLayer

RECORD_BYTES = 1500


def absolute(text: str) -> Path:
    """Return a folder that was named on the command line."""
    return Path(text).resolve()


class PacedLayer(FileLayer):
    """The real file system with a slower disk: a sync takes at least `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def sync_data(self, descriptor: int) -> None:
        """Sync, and return no earlier than the slower disk would have."""
        until = time.perf_counter() + self._seconds
        super().sync_data(descriptor)
        time.sleep(max(0.0, until - time.perf_counter()))


def measure_disk(folder: Path, *, seconds: float, layer: FileLayer | None = None) -> dict[str, Any]:
    """Append one record of a receipt's size and sync it, over and over, for about `seconds`."""
    layer = layer or FileLayer()
    record = os.urandom(RECORD_BYTES)
    taken: list[float] = []
    with tempfile.TemporaryDirectory(dir=folder) as private:
        descriptor = layer.create(Path(private) / "bare")
        began = time.perf_counter()
        try:
            while (now := time.perf_counter()) < began + seconds:
                layer.write(descriptor, record)
                layer.sync_data(descriptor)
                taken.append(time.perf_counter() - now)
        finally:
            layer.close(descriptor)
    return {"syncs_per_second": round(len(taken) / sum(taken), 1), **latencies(taken)}
