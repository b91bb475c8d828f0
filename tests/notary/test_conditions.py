"""Disk, clock and epochs: each condition begins, is told once, and ends."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.notary.conditions import CODES, ConditionRules, Conditions
from gateway.notary.files import FileLayer, FileSpace
from gateway.telemetry.metrics import Metrics
from tests.support.clocks import FakeTime

RULES = ConditionRules(min_free_bytes=1000, late_epoch_seconds=30.0)


class Disk(FileLayer):
    def __init__(self) -> None:
        self.left: FileSpace | OSError = FileSpace(free_bytes=5000, read_only=False)

    def space(self, path: Path) -> FileSpace:
        assert path == Path("/log")
        if isinstance(self.left, OSError):
            raise self.left
        return self.left


class Bench:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.ahead = 0.0
        self.disk = Disk()
        self.age = 0.0
        self.metrics = Metrics()
        self.metrics.watch_epoch_age(lambda: self.age)
        self.told: list[tuple[str, ...]] = []
        self.events: list[tuple[str, Any]] = []
        clock = self.time.clock
        self.conditions = Conditions(
            RULES,
            folder=Path("/log"),
            layer=self.disk,
            metrics=self.metrics,
            tell=self.told.append,
            emit=lambda event, **fields: self.events.append((event, fields["code"])),
            clock=type(clock)(
                wall=lambda: clock.wall() + self.ahead,
                monotonic=clock.monotonic,
                sleep=clock.sleep,
            ),
        )

    async def look(self) -> tuple[str, ...]:
        await self.conditions.look()
        return self.conditions.codes

    def sample(self, line: str) -> bool:
        return line in self.metrics.render().decode().splitlines()


async def test_nothing_is_said_while_all_is_well() -> None:
    bench = Bench()
    assert await bench.look() == ()
    assert (bench.told, bench.events) == ([], [])
    assert bench.sample("attested_disk_free_bytes 5000.0")
    assert all(bench.sample(f'attested_condition{{code="{code}"}} 0.0') for code in CODES)


@pytest.mark.parametrize(
    ("left", "code"),
    [
        (FileSpace(free_bytes=999, read_only=False), "disk_low"),
        (FileSpace(free_bytes=0, read_only=False), "disk_low"),
        (FileSpace(free_bytes=5000, read_only=True), "disk_read_only"),
        (OSError(errno.EIO, "Input/output error"), "disk_unread"),
    ],
)
async def test_disk_that_fills_or_fails_is_told_once_and_its_recovery_too(
    left: FileSpace | OSError, code: str
) -> None:
    bench = Bench()
    well = bench.disk.left
    bench.disk.left = left
    assert await bench.look() == (code,)
    assert await bench.look() == (code,)
    assert bench.sample(f'attested_condition{{code="{code}"}} 1.0')
    bench.disk.left = well
    assert await bench.look() == ()
    assert bench.told == [(code,), ()]
    assert bench.events == [("condition.began", code), ("condition.ended", code)]
    assert bench.sample(f'attested_condition{{code="{code}"}} 0.0')


async def test_space_exactly_at_the_bound_is_enough() -> None:
    bench = Bench()
    bench.disk.left = FileSpace(free_bytes=1000, read_only=False)
    assert await bench.look() == ()


async def test_disk_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr("gateway.notary.conditions._DISK_SECONDS", 0.01)
    hanging, entered = threading.Event(), []

    def space(_path: Path) -> FileSpace:
        entered.append(1)
        hanging.wait(60)
        return FileSpace(free_bytes=5000, read_only=False)

    monkeypatch.setattr(bench.disk, "space", space)
    try:
        assert await bench.look() == ("disk_unread",)
        assert await bench.look() == ("disk_unread",)
        assert len(entered) == 1, "one thread at a time"
    finally:
        hanging.set()


async def test_epoch_is_late_after_three_of_them_and_well_again_once_quoted() -> None:
    bench = Bench()
    bench.age = 30.0
    assert await bench.look() == ()
    bench.age = 30.1
    assert await bench.look() == ("epoch_late",)
    bench.age = 0.0
    assert await bench.look() == ()


@pytest.mark.parametrize(
    ("step", "direction"), [(6.0, "forward"), (-6.0, "back"), (3.2e8, "forward"), (-3.2e8, "back")]
)
async def test_clock_that_was_set_is_told_for_ten_minutes(step: float, direction: str) -> None:
    bench = Bench()
    bench.ahead = step
    assert await bench.look() == ("clock_jumped",)
    await bench.time.advance(599.0)
    assert await bench.look() == ("clock_jumped",)
    await bench.time.advance(1.0)
    assert await bench.look() == ()
    assert bench.sample(f'attested_clock_jumps_total{{direction="{direction}"}} 1.0')


async def test_clock_that_is_corrected_in_small_steps_has_not_jumped() -> None:
    bench = Bench()
    for _ in range(10):
        bench.ahead += 5.0
        await bench.time.advance(1.0)
        assert await bench.look() == ()


async def test_several_conditions_stand_beside_each_other_in_order() -> None:
    bench = Bench()
    bench.age, bench.ahead = 31.0, 10.0
    bench.disk.left = FileSpace(free_bytes=1, read_only=False)
    assert await bench.look() == ("clock_jumped", "disk_low", "epoch_late")
    bench.age = 0.0
    assert await bench.look() == ("clock_jumped", "disk_low")
    assert bench.events[-1] == ("condition.ended", "epoch_late")


async def test_started_conditions_are_looked_at_until_they_are_closed(tmp_path: Path) -> None:
    assert FileLayer().space(tmp_path).free_bytes > 0
    bench = Bench()
    await bench.conditions.start()
    bench.disk.left = FileSpace(free_bytes=1, read_only=False)
    seen = threading.Event()
    bench.conditions._tell = lambda _codes: seen.set()
    for _ in range(100):
        await bench.time.advance(1.0)
        if seen.is_set():
            break
    assert bench.conditions.codes == ("disk_low",)
    await bench.conditions.close()
