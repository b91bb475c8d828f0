"""Every file-system call of a notary's life fails once: the log is never corrupt, nothing is lost.

A life is start-up over an ended boot, receipts, checkpoints, epochs, exports, rotation, close.
The calls are counted; run number n lets call number n fail, until a run has fewer calls than that.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.errors import NotaryUnavailable
from gateway.notary.parts import NotaryParts
from tests.crash.faults import Fault, FaultyLayer
from tests.crash.life import parts_of, without_loop
from tests.crash.memory import MemoryLayer
from tests.crash.power import truth_of
from tests.crash.promises import Outsider, said_by
from tests.crash.restart import restart
from tests.crash.states import Image, Mood, state
from tests.crash.trace import Medium, Note

# A life that has a thread or a timer more or less has some calls more or less.
SLACK = 20
# EIO at every call, short at every second read or write, the others at every fourth call; all at
# every one if the environment asks for it.
STRIDES = {Fault.EIO: 1, Fault.SHORT: 2}
STRIDE = 4
EVERY = bool(os.environ.get("CRASH_EVERY_FAULT"))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Image, list[Note]]:
    """A data folder with one ended boot, and what it had promised."""
    base = tmp_path_factory.mktemp("earlier")
    layer = MemoryLayer(base)
    run(base, layer, layer)
    return layer.image(), [op for op in layer.trace if isinstance(op, Note)]


def run(base: Path, memory: MemoryLayer, layer: MemoryLayer | FaultyLayer) -> str:
    """Live once; returns how it ended: "closed", or the code of what ended it."""
    ended: list[str] = []
    (base / "data").mkdir(exist_ok=True)
    parts: NotaryParts = parts_of(base, layer, open_provider("simulated:"), on_end=ended.append)
    try:
        without_loop(parts, memory.promise)
    except UnavailableError as error:
        return f"start refused: {error.code}" if not ended else ended[0]
    except NotaryUnavailable:
        assert ended, "an end of the boot is told"
    return ended[0]


def judge(base: Path, memory: MemoryLayer, notes: list[Note], seed: int) -> None:
    """As it is, and as the power going right then could leave it: every promise holds."""
    rng = random.Random(seed)  # noqa: S311 - repeatable
    image = memory.image()
    outsider = Outsider(truth=truth_of(image))
    medium = Medium()
    for op in memory.trace:
        medium.play(op)
    said = said_by([*notes, *medium.notes])
    outsider.judge(image, said)
    for mood in (Mood.NOTHING, Mood.ANY, Mood.ANY):
        outsider.judge(state(medium, rng, mood), said)
    restart(base, image, said, outsider.judge(image, said))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", list(Fault))
def test_every_call_of_a_life_may_fail_once(
    fault: Fault, earlier: tuple[Image, list[Note]], tmp_path: Path
) -> None:
    image, notes = earlier
    ends: Counter[str] = Counter()
    stride = 1 if EVERY else STRIDES.get(fault, STRIDE)
    missed = number = runs = 0
    while missed < SLACK:
        base = tmp_path / str(number)
        base.mkdir()
        memory = MemoryLayer(base, image)
        layer = FaultyLayer(memory, at=number, fault=fault)
        end = run(base, memory, layer)
        missed = missed + 1 if layer.candidates <= number else 0
        if layer.hit is not None:
            ends[f"{layer.hit.name}: {end}"] += 1
        assert layer.violations == []
        judge(base, memory, notes, number)
        number += stride
        runs += 1
    # A life makes some 350 calls, of them 130 reads and writes: how many exactly, batches decide.
    assert sum(ends.values()) > 60 / stride
    print(fault, runs, dict(ends))  # noqa: T201 - shown by -s: which call led to which end
