"""The power goes at any moment: nothing that was released is lost, and the search would notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.attester.base import open_provider
from gateway.notary.log.export import StaticLog
from tests.crash import storework
from tests.crash.campaign import LIVES, Share, judge_share
from tests.crash.memory import MemoryLayer
from tests.crash.power import Found, Search
from tests.crash.trace import Note, Op, Rename, SyncFile, SyncFolder

BASE = Path("/power")
STATES = 1500


@pytest.fixture(scope="module")
def recorded() -> MemoryLayer:
    layer = MemoryLayer(BASE)
    storework.run(layer, BASE / "data", open_provider("simulated:"))
    return layer


def search(layer: MemoryLayer, trace: list[Op], states: int) -> Found:
    return Search(trace=trace, final=layer.image(), seed=20, states=states).run()


def released_early(trace: list[Op]) -> list[Op]:
    """Every promise is made before the sync that should have come first."""
    mutant: list[Op] = []
    held: list[Op] = []
    for op in trace:
        if isinstance(op, SyncFile):
            held.append(op)
        elif isinstance(op, Note):
            mutant.append(op)
        else:
            mutant += [*held, op]
            held = []
    return mutant + held


def without(kind: type[Op]) -> Callable[[list[Op]], list[Op]]:
    return lambda trace: [op for op in trace if not isinstance(op, kind)]


def renamed_before_synced(trace: list[Op]) -> list[Op]:
    """Files that get their name by renaming are never synced themselves."""
    renamed = {op.inode for op in trace if isinstance(op, Rename)}
    return [op for op in trace if not (isinstance(op, SyncFile) and op.file in renamed)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("life", list(LIVES))
def test_every_promise_is_kept_whenever_the_power_goes(life: str) -> None:
    _, found, _ = judge_share(Share(life=life, states=STATES, seed=20))
    assert found.states >= STATES
    assert found.examples == {}


@pytest.mark.parametrize(
    ("mutate", "rule"),
    [
        (released_early, "P1 a released receipt is there"),
        (without(SyncFile), "P1 a started boot has evidence"),
        (without(SyncFolder), "P1 a started boot is there"),
        (renamed_before_synced, "P5 the published checkpoint is one"),
    ],
    ids=["released before the sync", "no data sync", "no folder sync", "tiles not synced"],
)
def test_program_that_saves_a_sync_is_caught(
    recorded: MemoryLayer, mutate: Callable[[list[Op]], list[Op]], rule: str
) -> None:
    assert rule in search(recorded, mutate(recorded.trace), 800).broken


def test_checkpoint_published_before_its_tiles_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiles_only(self: StaticLog, files: list[tuple[Path, bytes]]) -> None:
        if files[0][0].name != "checkpoint":
            write_files(self, files)

    genuine, write_files = StaticLog.write, StaticLog._write_files

    def reversed_write(self: StaticLog, size: int, checkpoint: str) -> None:
        write_files(self, [(self._folder / "checkpoint", checkpoint.encode())])
        monkeypatch.setattr(StaticLog, "_write_files", tiles_only)
        genuine(self, size, checkpoint)
        monkeypatch.setattr(StaticLog, "_write_files", write_files)

    monkeypatch.setattr(StaticLog, "write", reversed_write)
    layer = MemoryLayer(BASE)
    storework.run(layer, BASE / "data", open_provider("simulated:"))
    found = search(layer, layer.trace, 800)
    assert "P5 every tile of the checkpoint is there" in found.broken
