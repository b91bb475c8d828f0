"""A notary against a simple model of it: whatever is driven, stopped, crashed, restored."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from attestation.receipt.claims import End
from gateway.notary.files import FileLayer
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from gateway.notary.log.examination import Depth
from gateway.notary.log.survey import examine
from gateway.notary.log.walk import BootStatus
from gateway.notary.parts import NotaryLimits
from gateway.notary.quotes.epochs import Pacing
from tests.notary.support import claims_of
from tests.support.logs import leaves_of, tokens_of
from tests.support.notaries import ALICE, BOB, announcement, new_jti, notary_parts, outcome

LIMITS = NotaryLimits(
    checkpoint_seconds=0.05,
    pacing=Pacing(seconds=0.05, forced_seconds=0.02),
    export_seconds=0.02,
)


class UnsyncedLayer(FileLayer):
    """The disk without waiting for it: losing power is what tests/crash is about."""

    def sync_data(self, descriptor: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


@dataclass
class Model:
    """What must be on the disk: for each boot the receipts it released, which of them an epoch
    is known to cover, and what was announced and not sealed.
    """

    released: dict[str, dict[str, str]] = field(default_factory=dict)
    anchored: set[str] = field(default_factory=set)
    running: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


class NotaryMachine(RuleBasedStateMachine):
    """Every rule ends with everything durable that was released; `found` compares."""

    @initialize()
    def first_boot(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="notary-model-"))
        self.runner = asyncio.Runner()
        self.folders = 0
        self.folder = self._new_folder()
        self.model = Model()
        self.copies: list[tuple[Path, Model]] = []
        self.short: dict[str, tuple[Path, int]] = {}
        self._start()

    @rule()
    def announce(self) -> None:
        jti = new_jti()
        self.notary.announce(announcement(jti))
        self.model.running.append(jti)

    @rule(which=st.integers(0, 10**6), good=st.booleans())
    @precondition(lambda self: self.model.running)
    def seal(self, which: int, good: bool) -> None:
        jti = self.model.running.pop(which % len(self.model.running))
        if good:
            receipt = self._run(self.notary.seal(outcome(jti)))
            assert receipt.jti == jti
            self._released[jti] = receipt.token
            return
        self._run(self.notary.abandon(jti))
        token = self._find(jti).token
        assert claims_of(token).response.end is End.GATEWAY_FAILURE
        self._released[jti] = token

    @rule(which=st.integers(0, 10**6))
    @precondition(lambda self: self._released)
    def wait_for_the_epoch(self, which: int) -> None:
        jti = list(self._released)[which % len(self._released)]
        found = self._find(jti, wait=30.0)
        assert found.state is ReceiptState.ANCHORED
        index = claims_of(found.token).log.index
        assert found.epoch.statement.size > index
        self.model.anchored |= {
            other
            for other, token in self._released.items()
            if claims_of(token).log.index < found.epoch.statement.size
        }

    @rule()
    def copy_the_disk(self) -> None:
        """A copy at one instant, as a backup or a thief would take it."""
        copy = self._new_folder()
        copy_disk(self.folder / "data", copy / "data")
        self.copies.append((copy, deepcopy(self.model)))
        name = self.notary.folder.name
        self.short[name] = (copy / "data" / name, len(leaves_of(copy / "data" / name)))

    @rule()
    def restart(self) -> None:
        self._stop()
        self._start()

    @rule()
    def crash(self) -> None:
        """The disk as it is now; the process never gets to close anything."""
        crashed = self._new_folder()
        copy_disk(self.folder / "data", crashed / "data")
        model = deepcopy(self.model)
        self._close()
        self.folder, self.model = crashed, model
        self.model.running.clear()
        self._start()

    @rule(which=st.integers(0, 10**6))
    @precondition(lambda self: self.copies)
    def restore_a_copy(self, which: int) -> None:
        """The whole data folder of an earlier time comes back."""
        self._close()
        copy, model = self.copies[which % len(self.copies)]
        self.folder, self.model = self._new_folder(), deepcopy(model)
        shutil.copytree(copy / "data", self.folder / "data")
        self.model.running.clear()
        self._start()

    @rule(which=st.integers(0, 10**6))
    def roll_one_boot_back(self, which: int) -> None:
        """One ended boot's folder is exchanged for an older copy: its successor gives it away."""
        self._stop()
        ended = [
            (name, copy)
            for name, (copy, leaves) in self.short.items()
            if name in self.model.order[:-1]
            and leaves < len(leaves_of(self.folder / "data" / name))
        ]
        if not ended:
            self._start()
            return
        name, copy = ended[which % len(ended)]
        before = self._new_folder()
        shutil.copytree(self.folder / "data", before / "data")
        shutil.rmtree(self.folder / "data" / name)
        shutil.copytree(copy, self.folder / "data" / name)
        notary = self._notary()
        found = notary._started.history.survey
        self._run(notary.close())
        told = examine(FileLayer(), self.folder / "data", name, found, depth=Depth.TAIL)
        assert told.status is BootStatus.SHORTENED
        self.folder = before
        self._start()

    @rule(which=st.integers(0, 10**6))
    @precondition(lambda self: any(self.model.released.values()))
    def find(self, which: int) -> None:
        """Every receipt that ever left is still there, the same, and only for its owner."""
        boots = [(name, jti) for name, jtis in self.model.released.items() for jti in jtis]
        name, jti = boots[which % len(boots)]
        found = self._find(jti)
        assert found.token == self.model.released[name][jti]
        assert (found.openings is None) == (name != self.notary.folder.name)
        if jti in self.model.anchored:
            assert found.state is ReceiptState.ANCHORED
        elif name != self.notary.folder.name:
            assert found.state in (ReceiptState.ANCHORED, ReceiptState.UNANCHORED_FINAL)
        assert self._run(self.notary.find(jti, BOB)) is None
        assert self._run(self.notary.find(new_jti(), ALICE)) is None

    @rule()
    def look_at_the_log(self) -> None:
        """Leaf 0 is the boot; receipts stand at the index they name, each once."""
        leaves = leaves_of(self.notary.folder)
        assert leaves[0].payload == self.notary.boot.evidence.statement.canonical
        claims = [claims_of(token) for token in tokens_of(self.notary.folder)]
        assert [one.jti for one in claims] == list(self._released)
        assert sorted({one.log.admission for one in claims}) == sorted(
            one.log.admission for one in claims
        )
        for one in claims:
            assert leaves[one.log.index].payload[:16].hex() == one.jti

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self._close()
            self.runner.close()
            shutil.rmtree(self.place)

    @property
    def _released(self) -> dict[str, str]:
        return self.model.released[self.notary.folder.name]

    def _start(self) -> None:
        self.notary = self._notary()
        prev = self.notary.boot.evidence.statement.prev
        if self.model.order:
            assert prev is not None
            origin = prev.checkpoint.partition("\n")[0]
            assert origin.rpartition("/")[2] == self.model.order[-1]
        else:
            assert prev is None
        statuses = {
            name: boot.status for name, boot in self.notary._started.history.survey.boots.items()
        }
        assert set(statuses) == set(self.model.order)
        assert set(statuses.values()) <= {BootStatus.WHOLE, BootStatus.TORN}
        name = self.notary.folder.name
        self.model.order.append(name)
        self.model.released[name] = {}

    def _notary(self) -> LocalNotary:
        parts = notary_parts(self.folder, limits=LIMITS, layer=UnsyncedLayer())
        started: LocalNotary = self._run(LocalNotary.start(parts))
        return started

    def _stop(self) -> None:
        """An orderly end: what still ran gets its receipt, everything is anchored."""
        name = self.notary.folder.name
        self._close()
        for token in tokens_of(self.folder / "data" / name):
            claims = claims_of(token)
            if claims.jti in self.model.running:
                assert claims.response.end is End.GATEWAY_FAILURE
                self.model.running.remove(claims.jti)
                self.model.released[name][claims.jti] = token
        assert not self.model.running
        self.model.anchored |= set(self.model.released[name])

    def _close(self) -> None:
        self._run(self.notary.close())

    def _find(self, jti: str, wait: float = 0.0) -> Any:
        found = self._run(self.notary.find(jti, ALICE, wait_seconds=wait))
        assert found is not None
        return found

    def _run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def _new_folder(self) -> Path:
        self.folders += 1
        folder = self.place / str(self.folders)
        folder.mkdir(mode=0o700)
        return folder


def copy_disk(source: Path, target: Path) -> None:
    """A copy of a data folder in use, without the index, which can be rebuilt.

    The threads of the notary go on meanwhile: what vanishes is not there, and the checkpoint of
    the static files comes first, so that the copy has all the tiles it needs.
    """
    target.mkdir(mode=0o700)
    for boot in (path for path in source.iterdir() if path.is_dir()):
        paths = sorted(boot.rglob("*"), key=lambda path: path.name != "checkpoint")
        for path in (path for path in paths if not path.name.endswith(".tmp")):
            copied = target / path.relative_to(source)
            (copied if path.is_dir() else copied.parent).mkdir(
                mode=0o700, parents=True, exist_ok=True
            )
            if path.is_file():
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy2(path, copied)


TestNotaryModel = NotaryMachine.TestCase
TestNotaryModel.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
