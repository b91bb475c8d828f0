"""Boot folders that ended in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stored_logs import StoredLog


@pytest.fixture
def stored(tmp_path: Path) -> StoredLog:
    """A boot that ended in order: several segments, an epoch, static files, a last checkpoint."""
    log = StoredLog(tmp_path / "data").begin()
    for _ in range(4):
        log.serve(3)
        log.checkpoint()
    log.epoch()
    log.serve(1)
    log.checkpoint()
    log.export()
    log.close()
    return log


@pytest.fixture
def single(tmp_path: Path) -> StoredLog:
    """A boot with everything in one segment."""
    log = StoredLog(tmp_path / "data", segment_bytes=1 << 20).begin()
    log.serve(3)
    log.checkpoint()
    log.serve(2)
    log.checkpoint()
    log.close()
    return log
