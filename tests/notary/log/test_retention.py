"""How long things are kept: old boots go whole, of the running boot only old segments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.notary.files import FileLayer
from gateway.notary.log.index import ReceiptIndex
from gateway.notary.log.retention import DAY_SECONDS, expire_boots, retire
from gateway.notary.log.survey import survey
from gateway.notary.log.walk import BootStatus
from tests.crash.faults import Fault, FaultyLayer
from tests.notary.log.test_index import wait_until
from tests.support.stored_logs import StoredLog

LAYER = FileLayer()
NOW = 1_500_000_000.0  # before anything that a test writes
OLD = NOW - 400 * DAY_SECONDS
LIMIT = NOW - 365 * DAY_SECONDS


def aged(log: StoredLog, when: float) -> StoredLog:
    """Close a log and let all of it have changed last at `when`."""
    log.close()
    for path in (*log.folder.rglob("*"), log.folder):
        os.utime(path, (when, when))
    return log


def boot(data_dir: Path, seed: str, when: float = NOW) -> StoredLog:
    log = StoredLog(data_dir, seed=seed).begin()
    log.serve(9)
    log.checkpoint()
    return aged(log, when)


def test_boots_older_than_the_limit_are_deleted_whole(tmp_path: Path) -> None:
    old, new = boot(tmp_path / "d", "old", OLD), boot(tmp_path / "d", "new")
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep=()) == [old.name]
    assert [path.name for path in (tmp_path / "d").iterdir()] == [new.name]
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep=()) == []


def test_boot_that_wrote_lately_is_kept_however_early_it_began(tmp_path: Path) -> None:
    log = boot(tmp_path / "d", "long", OLD)
    os.utime(log.segments[-1], (NOW, NOW))
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep=()) == []


def test_boots_to_keep_are_kept(tmp_path: Path) -> None:
    log = boot(tmp_path / "d", "old", OLD)
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep={log.name}) == []
    assert log.folder.exists()


def test_other_names_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "d" / "other").mkdir(parents=True)
    (tmp_path / "d" / ("a" * 16)).write_bytes(b"a file, no folder")
    for path in (tmp_path / "d").iterdir():
        os.utime(path, (OLD, OLD))
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep=()) == []
    assert len(list((tmp_path / "d").iterdir())) == 2


def test_boot_that_never_came_to_have_segments_expires_too(tmp_path: Path) -> None:
    folder = tmp_path / "d" / ("a" * 16)
    folder.mkdir(parents=True)
    os.utime(folder, (OLD, OLD))
    assert expire_boots(LAYER, tmp_path / "d", before=LIMIT, keep=()) == ["a" * 16]


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC])
def test_deletion_cut_off_anywhere_leaves_a_whole_boot_or_none(
    tmp_path: Path, fault: Fault
) -> None:
    layer = FaultyLayer(FileLayer())
    boot(tmp_path / "d", "old", OLD)
    expire_boots(layer, tmp_path / "d", before=LIMIT, keep=())
    for at in range(len(layer.calls)):
        folder = tmp_path / f"{at}"
        log = boot(folder, "old", OLD)
        with pytest.raises(OSError, match="o"):
            expire_boots(FaultyLayer(LAYER, at=at, fault=fault), folder, before=LIMIT, keep=())
        found = survey(LAYER, folder)
        assert found.strangers == ()
        if log.folder.exists():
            assert found.boots[log.name].status is BootStatus.WHOLE
        # The next call finishes it.
        expire_boots(LAYER, folder, before=LIMIT, keep=())
        assert list(folder.iterdir()) == []


def test_old_segments_of_the_running_boot_go_and_its_receipts_with_them(tmp_path: Path) -> None:
    earlier = boot(tmp_path / "d", "old", OLD)
    log = StoredLog(tmp_path / "d", seed="running").begin()
    for _ in range(4):
        log.serve(4)
        log.checkpoint()
    log.export()
    index = ReceiptIndex(LAYER, tmp_path / "d", tmp_path / "d" / "index.sqlite", log.name)
    index.start()
    wait_until(lambda: index.complete)
    for leaf in log.receipts:
        index.add(log.row(leaf))
    wait_until(lambda: not index._recent)
    for path in log.segments[:2]:
        os.utime(path, (OLD, OLD))
    boots, segments = retire(
        LAYER,
        tmp_path / "d",
        before=LIMIT,
        store=log.store,
        covered=log.static.size,
        index=index,
    )
    assert (boots, segments) == ([earlier.name], [0, 1])
    gone = [leaf for leaf, place in log.receipts.items() if place.segment < 2]
    wait_until(lambda: all(index.get(log.row(leaf).jti) is None for leaf in gone))
    for leaf in set(log.receipts) - set(gone):
        assert index.get(log.row(leaf).jti) == log.row(leaf)
    assert index.get(earlier.row(1).jti) is None
    # The hashes stay: every leaf can still be proved.
    root = log.tree.root
    for leaf in gone:
        assert log.tree.proved_path(
            entry=log.log.entries[leaf], index=leaf, size=log.tree.size, root=root
        )
    index.close()
    log.close()


def test_boot_that_is_followed_is_kept(tmp_path: Path) -> None:
    earlier = boot(tmp_path / "d", "old", OLD)
    log = StoredLog(tmp_path / "d", seed="running").begin()
    index = ReceiptIndex(LAYER, tmp_path / "d", tmp_path / "d" / "index.sqlite", log.name)
    gone = retire(
        LAYER,
        tmp_path / "d",
        before=LIMIT,
        store=log.store,
        covered=0,
        index=index,
        follows={earlier.name},
    )
    assert gone == ([], [])
    log.close()
