"""One share of a power-loss campaign: record a life, let the power go in many ways, judge."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.attester.base import open_provider
from tests.crash import storework
from tests.crash.life import parts_of, without_loop
from tests.crash.memory import MemoryLayer
from tests.crash.outside import Boot
from tests.crash.power import Found, Search
from tests.crash.promises import Said
from tests.crash.restart import examine_disk, restart, survey_disk
from tests.crash.states import Image

EXAMINE_EVERY = 5
RESTART_EVERY = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What to do: which life to record, how many states of it to judge, with which seed."""

    life: str
    states: int
    seed: int
    restart_every: int = RESTART_EVERY


def record_store(base: Path) -> MemoryLayer:
    """Store, tree and export by hand: the same calls every time."""
    layer = MemoryLayer(base)
    storework.run(layer, base / "data", open_provider("simulated:"))
    return layer


def record_boots(base: Path) -> MemoryLayer:
    """Three whole boots on one data folder, with the notary's own threads and timers."""
    layer = MemoryLayer(base)
    (base / "data").mkdir(exist_ok=True)
    for _ in range(3):
        without_loop(parts_of(base, layer, open_provider("simulated:")), layer.promise)
    return layer


def _findable(life: str, said: dict[str, Said]) -> dict[str, Said]:
    """The hand-made receipts of "store" have no signatures, so no notary would hand them out."""
    if life != "store":
        return said
    return {folder: replace(told, receipts=[]) for folder, told in said.items()}


LIVES: dict[str, Callable[[Path], MemoryLayer]] = {"store": record_store, "boots": record_boots}


def judge_share(share: Share) -> tuple[Share, Found, int]:
    """Do one share; returns what was found, and how many operations its trace has."""
    with tempfile.TemporaryDirectory(prefix="attested-power-") as name:
        base = Path(name)
        layer = LIVES[share.life](base)
        seen = 0

        def further(image: Image, said: dict[str, Said], read: dict[str, Boot | None]) -> None:
            nonlocal seen
            survey_disk(base, image, said, read)
            seen += 1
            if seen % EXAMINE_EVERY == 0:
                examine_disk(base, image, said)
            if seen % share.restart_every == 0 and "data" in image.folders:
                restart(base, image, _findable(share.life, said), read)

        search = Search(
            trace=layer.trace,
            final=layer.image(),
            seed=share.seed,
            states=share.states,
            further=further,
        )
        return share, search.run(), len(layer.trace)
