"""/readyz under faults: each is named, and nothing is answered without a receipt meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.access.keyfile import add_key
from gateway.access.principal import Grant, Quota
from gateway.notary.files import FileLayer, FileSpace
from tests.api.conftest import Running
from tests.support.disks import BrokenSegments

PARTS = ("budgets", "clock", "disk", "engines", "epochs", "keys", "notary")
QUICK = {"slow_seconds": 0.3, "patience_seconds": 1.5}


class StallingDisk(BrokenSegments):
    """A disk on which the sync of a receipt takes as long as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def sync_data(self, descriptor: int) -> None:
        if descriptor in self._failing:
            self.go_on.wait(60)
            self._failing.discard(descriptor)
        super().sync_data(descriptor)


class FullDisk(FileLayer):
    """A disk that is low, then refuses every write, as one that is full or read-only does."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.broken = False
        self.read_only = False
        self.free = 1 << 40

    def space(self, _path: Path) -> FileSpace:
        return FileSpace(free_bytes=self.free, read_only=self.read_only)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.broken:
            raise OSError(self.number, os.strerror(self.number))
        return super().write(descriptor, data)


async def until(running: Running, met: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask /readyz until its answer is the one; the time limit is for a test that would hang."""
    async with asyncio.timeout(60):
        while True:
            response = await running.get("/readyz", None)
            if met(response.status_code, response.json()):
                found: dict[str, Any] = response.json()
                return found
            await asyncio.sleep(0.05)


def data(folder: Path) -> dict[str, Any]:
    return {"data_dir": folder / "data", **QUICK}


async def test_ready_gateway_names_every_part_and_nothing_else(running: Running) -> None:
    response = await running.get("/readyz", None)
    assert response.status_code == 200
    assert response.json() == {
        "degraded": [],
        "parts": dict.fromkeys(PARTS, "ok"),
        "reasons": [],
        "status": "ready",
    }


async def test_stalling_disk_is_a_503_after_a_bound_and_its_receipt_comes_in_the_end(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    disk = StallingDisk()
    async with start(tmp_path, disk, notary=data(tmp_path)) as running:
        assert (await running.chat()).status_code == 200
        disk.broken = True
        stalled = asyncio.create_task(running.chat())
        unready = await until(running, lambda status, _: status == 503)
        assert unready["reasons"] == ["notary_slow"]
        assert unready["parts"]["notary"] == "notary_slow"
        refused = await running.chat()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert refused.json()["error"]["code"] == "notary_unavailable"
        answer = await stalled
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
        assert answer.json()["error"]["code"] == "receipt_unavailable"
        assert "choices" not in answer.json()
        disk.broken = False
        disk.go_on.set()
        again = await until(running, lambda status, _: status == 200)
        assert again["reasons"] == []
        assert (await running.chat()).status_code == 200
        jti = answer.headers["x-receipt-id"]
        assert (await running.get(f"/v1/receipts/{jti}")).status_code == 200
        names = [event["event"] for event in running.events()]
        assert names.index("notary.slow") < names.index("notary.answers")
        metrics = (await running.gateway.metrics_text()).decode()
        assert "attested_answers_unsealed_total 1.0" in metrics
        assert 'attested_requests_shed_total{reason="notary"} 1.0' in metrics
        assert "attested_in_flight 0.0" in metrics


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
async def test_disk_is_low_before_it_is_full_and_then_nothing_is_answered(
    tmp_path: Path, start: Callable[..., Any], number: int
) -> None:
    disk = FullDisk(number)
    async with start(tmp_path, disk) as running:
        assert (await running.chat()).status_code == 200
        disk.free, disk.read_only = 1000, number == errno.EROFS
        code = "disk_read_only" if disk.read_only else "disk_low"
        warned = await until(running, lambda _, body: body["status"] == "degraded")
        assert warned["degraded"] == [warned["parts"]["disk"]] == [code]
        assert (await running.chat()).status_code == 200
        disk.broken = True
        during = await running.chat()
        assert (during.status_code, during.headers["x-should-retry"]) == (503, "false")
        assert "choices" not in during.json()
        ended = await until(running, lambda status, _: status == 503)
        assert ended["reasons"] == ["log_failed"]
        assert ended["parts"]["disk"] == code
        assert {"code": code, "event": "condition.began"}.items() <= next(
            event for event in running.events() if event["event"] == "condition.began"
        ).items()


async def test_platform_that_gives_no_quote_is_degraded_and_receipts_go_on(
    tmp_path: Path, start: Callable[..., Any]
) -> None:
    # The boot quote is given at once; every later one takes longer than it may.
    hanging = {"provider": "simulated:?hang_rate=1&hang=3", "quote_timeout": 0.2}
    late = {"epoch_seconds": 0.2, "forced_epoch_seconds": 0.2}
    async with start(tmp_path, evidence=hanging, log=late) as running:
        answer = await running.chat()
        assert answer.status_code == 200
        found = await until(running, lambda _, body: "epoch_late" in body["degraded"])
        assert (found["status"], found["parts"]["epochs"]) == ("degraded", "epoch_late")
        more = await running.chat()
        jti = more.headers["x-receipt-id"]
        assert (await running.get(f"/v1/receipts/{jti}")).status_code == 200
        failed = [event for event in running.events() if event["event"] == "epoch.failed"]
        assert {event["reason"] for event in failed} <= {
            "quote_timeout",
            "quote_busy",
            "quote_pause",
        }


async def test_engine_that_is_gone_makes_the_gateway_unready(running: Running) -> None:
    await running.engine.close()
    async with asyncio.timeout(60):
        while (await running.get("/readyz", None)).status_code == 200:
            assert (await running.chat()).status_code in {502, 503}
    found = (await running.get("/readyz", None)).json()
    assert (found["status"], found["parts"]["engines"]) == ("unready", "engines_down")
    assert (await running.get("/healthz", None)).status_code == 200


async def test_budgets_that_cannot_be_kept_are_told_until_they_are_again(running: Running) -> None:
    lock = running.folder / "data" / "budgets.json.lock"
    lock.mkdir()
    running.keys["carol"] = add_key(
        running.folder / "keys.json",
        label="carol",
        now=1,
        grant=Grant(quota=Quota(token_budget=99)),
    )
    async with asyncio.timeout(60):
        while (await running.chat("carol")).status_code != 200:  # noqa: ASYNC110 - a file read
            await asyncio.sleep(0.05)
    found = await until(running, lambda _, document: document["status"] != "ready")
    assert (found["status"], found["degraded"]) == ("degraded", ["budgets_unkept"])
    assert found["parts"]["budgets"] == "budgets_unkept"
    assert "attested_budgets_unkept 1.0" in (await running.gateway.metrics_text()).decode()
    lock.rmdir()
    await until(running, lambda _, document: document["status"] == "ready")
    assert "attested_budgets_unkept 0.0" in (await running.gateway.metrics_text()).decode()
    names = [event["event"] for event in running.events()]
    assert names.index("budgets.unkept") < names.index("budgets.kept")
