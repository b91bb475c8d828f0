"""Old boots are deleted whole: whatever fails or stops in between, the rest stays what it was."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from tests.crash.faults import Fault, FaultyLayer
from tests.crash.life import QUICK, parts_of, without_loop
from tests.crash.memory import MemoryLayer
from tests.crash.power import Search
from tests.crash.promises import Outsider, Said, said_by
from tests.crash.restart import restart, survey_disk
from tests.crash.states import Image
from tests.crash.trace import Note

LONG_AGO = time.time() - 10 * 86_400
SLACK = 15


@pytest.fixture(scope="module")
def two_boots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, list[Note]]:
    """A data folder with two ended boots, and what they promised."""
    base = tmp_path_factory.mktemp("two")
    layer = MemoryLayer(base)
    (base / "data").mkdir()
    for _ in range(2):
        without_loop(parts_of(base, layer, open_provider("simulated:")), layer.promise)
    return layer.image(), [op for op in layer.trace if isinstance(op, Note)]


async def clear_away(base: Path, layer: FileLayer) -> Counter[str]:
    """Start a boot that keeps receipts for a day, until it has cleared away or given up."""
    done = asyncio.Event()
    told: Counter[str] = Counter()
    loop = asyncio.get_running_loop()

    def emit(event: str, **_fields: Any) -> None:
        told[event] += 1
        if event in ("log.retired", "log.retention_failed"):
            loop.call_soon_threadsafe(done.set)

    (base / "data").mkdir(exist_ok=True)
    limits = replace(QUICK, retain_days=1, export_seconds=60.0)
    parts = parts_of(
        base,
        layer,
        open_provider("simulated:"),
        limits=limits,
        emit=emit,
        on_end=lambda _reason: loop.call_soon_threadsafe(done.set),
    )
    try:
        notary = await LocalNotary.start(parts)
    except UnavailableError:
        return told
    try:
        await asyncio.wait_for(done.wait(), 60)
    finally:
        await notary.close()
    return told


def kept(notes: list[Note]) -> dict[str, Said]:
    """What must still hold: the promises of the second boot, which the new one follows."""
    said = said_by(notes)
    first = next(iter(said))
    return {folder: told for folder, told in said.items() if folder != first}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_call_of_clearing_away_may_fail_once(
    two_boots: tuple[Image, list[Note]], tmp_path: Path
) -> None:
    image, notes = two_boots
    told: Counter[str] = Counter()
    for number in deleting(tmp_path / "counted", image):
        base = tmp_path / str(number)
        base.mkdir()
        memory = MemoryLayer(base, image, changed=LONG_AGO)
        layer = FaultyLayer(memory, at=number, fault=Fault.EIO)
        told += asyncio.run(clear_away(base, layer))
        assert layer.violations == []
        after, said = memory.image(), kept(notes)
        read = Outsider(truth={}).judge(after, said)
        restart(base, after, said, read)
    assert told["log.retention_failed"] > 10
    assert told["log.retired"] > 5


def deleting(base: Path, image: Image) -> range:
    """The numbers of the calls that delete, and some around them: threads shift them a little."""
    base.mkdir()
    layer = FaultyLayer(MemoryLayer(base, image, changed=LONG_AGO))
    asyncio.run(clear_away(base, layer))
    places = [n for n, call in enumerate(layer.calls) if call.about.endswith(".expired")]
    return range(places[0] - SLACK, places[-1] + SLACK)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_power_may_go_while_old_boots_are_deleted(
    two_boots: tuple[Image, list[Note]], tmp_path: Path
) -> None:
    image, notes = two_boots
    layer = MemoryLayer(tmp_path, image, changed=LONG_AGO)
    begun = len(layer.trace)
    told = asyncio.run(clear_away(tmp_path, layer))
    assert told["log.retired"] == 1
    said = kept(notes)

    def further(state: Image, _said: object, read: Any) -> None:
        survey_disk(tmp_path, state, said, read)

    search = Search(
        trace=layer.trace,
        final=layer.image(),
        seed=7,
        states=600,
        further=further,
        begun=begun,
        promised=said,
    )
    found = search.run()
    assert found.states >= 300
    assert found.examples == {}
