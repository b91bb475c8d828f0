"""The store: whole files under their digests, or none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.collateral import Collateral, encode_dcap_collateral
from attestation.tdx.endorsements import Endorsements as Facts
from attestation.tdx.endorsements import parse_endorsements
from gateway.attester.simulated.facts import Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.endorsements.store import EndorsementStore
from tests.refusals import refusal

NOW = 1_790_000_000
PLATFORM = SimulatedPlatform(now=NOW, seed=b"stored")
GOOD = PLATFORM.collateral()


def facts(one: Collateral = GOOD) -> Facts:
    return parse_endorsements(one)


def issued(**changes: Any) -> Facts:
    return facts(PLATFORM.but(endorsements=Endorsements(**changes)).collateral())


@pytest.fixture
def store(tmp_path: Path) -> EndorsementStore:
    return EndorsementStore(tmp_path / "store")


def test_set_is_loaded_as_it_was_added(store: EndorsementStore) -> None:
    assert store.add(facts()).stored
    (name,) = store.names()
    assert name == GOOD.digest.hex
    assert store.load(name) == facts()
    assert not store.add(facts()).stored


def test_sets_that_are_newer_in_number_or_issue_are_reported(store: EndorsementStore) -> None:
    other = SimulatedPlatform(
        now=NOW,
        seed=b"other",
        machine=Machine(fmspc=b"\xff" * 6),
        endorsements=Endorsements(fmspc=b"\xff" * 6, evaluation_number=99, qe_evaluation_number=99),
    ).collateral()
    numbered = issued(evaluation_number=21, qe_evaluation_number=21, tcb_issued=-9000)
    later = issued(tcb_issued=-60, qe_issued=-60, crl_issued=-60)
    for one in (facts(other), numbered):
        assert store.add(one).newer == ()
    assert [one.number for one in store.add(later).newer] == [21]
    added = store.add(facts())
    assert {one.collateral.digest for one in added.newer} == {
        numbered.collateral.digest,
        later.collateral.digest,
    }


def test_file_that_is_not_what_its_name_says_is_malformed(store: EndorsementStore) -> None:
    store.add(facts())
    path = store.folder / f"{'0' * 64}.json"
    path.write_bytes(encode_dcap_collateral(GOOD))
    assert refusal(store.load, "0" * 64, error=MalformedError) == "collateral_digest"
    path.write_bytes(b"{")
    with pytest.raises(MalformedError) as caught:
        store.load("0" * 64)
    assert str(path) in str(caught.value)


def test_pipe_under_the_name_of_a_set_is_not_waited_for(store: EndorsementStore) -> None:
    store.add(facts())
    os.mkfifo(store.folder / f"{'0' * 64}.json")
    assert refusal(store.load, "0" * 64, error=MalformedError) == "collateral_file"


def test_partial_files_and_strangers_are_no_sets(store: EndorsementStore) -> None:
    store.add(facts())
    for name in (f".{GOOD.digest.hex}.json.ab.partial", "README", f"{GOOD.digest.hex}.json~"):
        (store.folder / name).write_bytes(b"")
    assert store.names() == (GOOD.digest.hex,)


def test_folder_that_is_absent_or_no_folder_is_unavailable(tmp_path: Path) -> None:
    assert refusal(EndorsementStore(tmp_path / "no").names, error=UnavailableError)
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (file, file / "in", tmp_path / "a" / "b"):
        assert refusal(EndorsementStore(folder).add, facts(), error=UnavailableError)
    store = EndorsementStore(tmp_path)
    assert refusal(store.load, "0" * 64, error=UnavailableError) == "endorsement_store"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failing_disk_leaves_the_store_as_it_was(
    store: EndorsementStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.add(facts())
    before = sorted(store.folder.iterdir())

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    one = issued(evaluation_number=22)
    assert refusal(store.add, one, error=UnavailableError) == "endorsement_store"
    assert sorted(store.folder.iterdir()) == before


def test_set_is_on_the_medium_before_it_has_its_name(
    store: EndorsementStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(facts())
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def noted_rename(old: Path, new: Path) -> Path:
        steps.append("rename")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_rename)
    store.add(issued(evaluation_number=22))
    assert steps == ["sync", "rename", "sync"]
