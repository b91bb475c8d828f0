"""Caring for earlier boots: whatever fails in it is told, and ends nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.notary import history
from tests.support.notaries import running_notary


def fail(*_args: Any, **_kwargs: Any) -> None:
    raise ValueError("none of the kinds that reading a disk raises")


async def told_by(folder: Path, wanted: str) -> dict[str, Any]:
    """Start a boot that follows another; return the fields of the first event of this name."""
    async with running_notary(folder):
        pass
    heard: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def emit(event: str, **fields: Any) -> None:
        if event == wanted and not heard.done():
            heard.set_result(fields)

    async with running_notary(folder, emit=emit) as notary:
        fields = await asyncio.wait_for(heard, 60)
        assert notary.healthy
    return fields


async def test_clearing_away_that_fails_inside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "retire", fail)
    assert await told_by(tmp_path, "log.retention_failed") == {"reason": "internal"}


async def test_boot_whose_reading_fails_inside_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "examine", fail)
    fields = await told_by(tmp_path, "boot.unread")
    assert (tmp_path / "data" / fields["boot"]).is_dir()
