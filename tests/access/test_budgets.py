"""Token budgets on disk: what a gateway that starts again still knows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError
from gateway.access import budgets as module
from gateway.access.budgets import UNKEPT, BudgetFile, BudgetKeeper
from gateway.access.principal import Period, subject_of
from gateway.access.quota_table import FOREVER, QuotaTable, Usage
from tests.access.test_quotas import NOON, World, code, outcome, principal

TODAY = NOON // 86_400


@dataclass(slots=True, kw_only=True)
class Gateway:
    """One life of a gateway: a new table, and the file of the one before."""

    path: Path
    wall: float = NOON
    world: World = field(default_factory=World)
    file: BudgetFile = field(init=False)

    def __post_init__(self) -> None:
        self.world.wall = self.wall
        self.file = BudgetFile(self.path, self.world.table, lambda: self.world.wall)
        self.file.load()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budgets.json"


def test_budget_goes_on_after_a_restart(path: Path) -> None:
    alice, bob = principal("alice", token_budget=100), principal("bob", token_budget=100)
    first = Gateway(path=path)
    quotas = first.world.quotas()
    quotas.charge(alice, outcome(60))
    quotas.charge(bob, outcome(10))
    assert first.file.save()
    second = Gateway(path=path)
    quotas = second.world.quotas()
    assert code(quotas.admit(alice)) is None
    quotas.charge(alice, outcome(40))
    assert code(quotas.admit(alice)) == "insufficient_quota"
    assert code(quotas.admit(bob)) is None
    second.file.save()
    assert code(Gateway(path=path).world.quotas().admit(alice)) == "insufficient_quota"


def test_budget_of_a_day_is_kept_for_that_day(path: Path) -> None:
    alice = principal(token_budget=100, budget_period=Period.DAY)
    first = Gateway(path=path)
    first.world.quotas().charge(alice, outcome(100))
    first.file.save()
    assert code(Gateway(path=path).world.quotas().admit(alice)) == "insufficient_quota"
    tomorrow = Gateway(path=path, wall=NOON + 86_400)
    assert code(tomorrow.world.quotas().admit(alice)) is None
    tomorrow.world.quotas().charge(alice, outcome(1))
    tomorrow.file.save()
    (kept,) = json.loads(path.read_bytes())["budgets"]
    assert (kept["day"], kept["spent"]) == (TODAY + 1, 1)


def test_nothing_is_written_while_nothing_changed(path: Path) -> None:
    gateway = Gateway(path=path)
    gateway.world.quotas().admit(principal(requests_per_minute=5, token_budget=5))
    gateway.world.quotas().charge(principal(tokens_per_minute=5), outcome(3))
    assert not gateway.file.save()
    assert not path.exists()
    gateway.world.quotas().charge(principal(token_budget=5), outcome(3))
    assert gateway.file.save()
    assert not gateway.file.save()
    assert not Gateway(path=path).file.save()


def test_two_that_save_one_table_never_replace_new_by_old(path: Path) -> None:
    gateway = Gateway(path=path)
    other = BudgetFile(path, gateway.world.table, lambda: NOON)
    alice = principal(token_budget=100)
    for at in range(1, 6):
        gateway.world.quotas().charge(alice, outcome(1))
        assert (gateway.file if at % 2 else other).save()
        (kept,) = json.loads(path.read_bytes())["budgets"]
        assert kept["spent"] == at


def test_file_is_private_and_no_temporary_file_stays(path: Path) -> None:
    gateway = Gateway(path=path)
    gateway.world.quotas().charge(principal(token_budget=5), outcome(3))
    gateway.file.save()
    assert path.stat().st_mode & 0o777 == 0o600
    names = {item.name for item in path.parent.iterdir()}
    assert names == {"budgets.json", "budgets.json.lock"}


GOOD = {"day": None, "spent": 5, "sub": subject_of(b"x").base64url}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"budgets": [], "schema": "other"},
        {"budgets": [], "schema": module.SCHEMA, "more": 1},
        {"budgets": [{}], "schema": module.SCHEMA},
        {"budgets": [GOOD | {"spent": -1}], "schema": module.SCHEMA},
        {"budgets": [GOOD | {"spent": "5"}], "schema": module.SCHEMA},
        {"budgets": [GOOD | {"day": -1}], "schema": module.SCHEMA},
        {"budgets": [GOOD | {"sub": "x"}], "schema": module.SCHEMA},
        {"budgets": [GOOD | {"more": 1}], "schema": module.SCHEMA},
        {"budgets": [GOOD] * 70_000, "schema": module.SCHEMA},
    ],
)
def test_damaged_file_stops_the_start_and_says_what_to_do(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document))
    with pytest.raises(MalformedError) as refusal:
        Gateway(path=path)
    assert "take the file from a backup, or remove it" in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_more_budgets_than_there_is_room_for_are_refused(path: Path) -> None:
    subs = [Digest.of(b"%d" % at) for at in range(40_000)]
    listed = [GOOD | {"sub": sub.base64url} for sub in subs]
    path.write_text(json.dumps({"budgets": listed, "schema": module.SCHEMA}))
    with pytest.raises(MalformedError, match="more budgets"):
        Gateway(path=path)


def test_budgets_that_had_room_in_one_table_have_room_in_the_next(path: Path) -> None:
    table = QuotaTable.alone()
    names = (Digest.of(b"%d" % at) for at in count())
    # All in one set of this table, which has room for sixteen.
    subs = list(islice((sub for sub in names if table.set_of(sub) == 7), 17))
    listed = [GOOD | {"sub": sub.base64url} for sub in subs]
    path.write_text(json.dumps({"budgets": listed, "schema": module.SCHEMA}))
    module.BudgetFile(path, table, lambda: 0.0).load()
    assert {sub for sub, _ in table.budgets(0)} == {sub.value for sub in subs}


def test_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    gateway = Gateway(path=tmp_path / "absent" / "budgets.json")
    with pytest.raises(UnavailableError, match="cannot be kept") as caught:
        gateway.file.require_folder()
    assert "access.budgets_file" in caught.value.hint
    assert not (tmp_path / "absent").exists()


def test_file_that_cannot_be_read_stops_the_start(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UnavailableError, match="cannot be read"):
        Gateway(path=path)


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 1 << 50), max_size=40))
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, spent: dict[int, int]
) -> None:
    path = tmp_path_factory.mktemp("budgets") / "budgets.json"
    subs = {name: subject_of(b"%d" % name) for name in spent}
    first = QuotaTable.alone()
    saving = BudgetFile(path, first, lambda: NOON)
    for name, tokens in spent.items():
        assert first.write(subs[name], Usage(spent=tokens, day=FOREVER), TODAY)
        first.budget_changed(subs[name])
    assert saving.save() is bool(spent)
    second = QuotaTable.alone()
    BudgetFile(path, second, lambda: NOON).load()
    assert {name: second.read(subs[name]).spent for name in spent} == spent


def kept(path: Path) -> int:
    (budget,) = json.loads(path.read_bytes())["budgets"]
    return int(budget["spent"])


async def test_keeper_saves_at_the_end_and_tells_of_trouble_once(path: Path) -> None:
    gateway = Gateway(path=path)
    told: list[OSError | None] = []
    keeper = BudgetKeeper(gateway.file, told.append)
    keeper.start()
    gateway.world.quotas().charge(principal(token_budget=9), outcome(4))
    await keeper.close()
    assert kept(path) == 4
    broken = BudgetFile(path.parent / "no" / "budgets.json", gateway.world.table, lambda: NOON)
    gateway.world.quotas().charge(principal(token_budget=9), outcome(4))
    keeper = BudgetKeeper(broken, told.append)
    await keeper._save()
    await keeper._save()
    assert len(told) == 1
    assert isinstance(told[0], FileNotFoundError)
    assert keeper.code == UNKEPT
    assert keeper.snapshot() == {"attested_budgets_unkept": [[[], 1]]}
    (path.parent / "no").mkdir()
    await keeper._save()
    await keeper._save()
    assert told[1:] == [None]
    assert (keeper.code, keeper.snapshot()) == ("", {"attested_budgets_unkept": [[[], 0]]})


async def test_keeper_saves_while_the_gateway_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    gateway, saved = Gateway(path=path), asyncio.Event()
    loop, save = asyncio.get_running_loop(), gateway.file.save

    def told() -> bool:
        if save():
            loop.call_soon_threadsafe(saved.set)
        return True

    keeper = BudgetKeeper(cast("BudgetFile", SimpleNamespace(save=told)), lambda _: None)
    keeper.start()
    gateway.world.quotas().charge(principal(token_budget=9), outcome(4))
    async with asyncio.timeout(60):
        await saved.wait()
    assert kept(path) == 4
    await keeper.close()
