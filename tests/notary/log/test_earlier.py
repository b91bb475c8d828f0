"""Receipts of ended boots: found with their proof, never with a wrong one, from what is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash
from gateway.notary.files import FileLayer
from gateway.notary.interface import ReceiptState
from gateway.notary.log.database import IndexedReceipt
from gateway.notary.log.earlier import EarlierBoots, EarlierReceipt
from gateway.notary.log.index import ReceiptIndex
from gateway.notary.log.scan import BootSegments
from gateway.notary.log.segments import Location
from tests.notary.log.test_index import RUNNING, wait_until
from tests.support.stored_logs import StoredLog


@pytest.fixture
def stored(tmp_path: Path) -> StoredLog:
    """A boot that crashed: 600 receipts, two epochs, static files that end before the second,
    and receipts that no epoch covers.
    """
    log = StoredLog(tmp_path / "data", segment_bytes=60_000).begin()
    log.serve(300)
    log.epoch()
    log.export()
    log.serve(295)
    log.epoch()
    log.serve(5)
    log.checkpoint()
    log.close()
    return log


@pytest.fixture
def index(stored: StoredLog) -> Iterator[ReceiptIndex]:
    index = ReceiptIndex(FileLayer(), stored.data_dir, stored.data_dir / "index.sqlite", RUNNING)
    index.start()
    wait_until(lambda: index.complete)
    yield index
    index.close()


@pytest.fixture
def earlier(stored: StoredLog, index: ReceiptIndex) -> EarlierBoots:
    return EarlierBoots(FileLayer(), stored.data_dir, index)


def require_proved(log: StoredLog, leaf: int, found: EarlierReceipt) -> None:
    """The proof is one that an outsider accepts, and ends in the epoch's own checkpoint."""
    assert found.state is ReceiptState.ANCHORED
    assert found.proof is not None
    assert found.epoch is not None
    proof = parse_tlog_proof(found.proof)
    logged = verify_tlog_proof(
        proof,
        leaf_hash=leaf_hash(log.log.entries[leaf]),
        vkeys=[log.log.made.keyset.log_key],
        origin=log.log.made.origin,
    )
    assert logged.index == leaf
    assert proof.note == found.epoch.checkpoint
    assert logged.checkpoint.size == found.epoch.statement.size


LEAVES = (1, 2, 255, 256, 300, 302, 303, 511, 512, 590, 596)


@pytest.mark.parametrize("leaf", LEAVES)
def test_anchored_receipt_comes_with_the_first_epoch_that_covers_it(
    stored: StoredLog, earlier: EarlierBoots, leaf: int
) -> None:
    found = earlier.find(stored.row(leaf))
    require_proved(stored, leaf, found)
    assert found.epoch == stored.epochs[0 if leaf < 301 else 1][0]
    (boot,) = found.boot.boots
    assert boot == stored.log.made.evidence
    assert found.boot.collateral != {}
    tokens = {item.receipt.claims.log.index: item.receipt.token for item in stored.log.items}
    assert found.token == tokens[leaf]


def test_receipt_beyond_the_last_epoch_is_unanchored_for_good(
    stored: StoredLog, earlier: EarlierBoots
) -> None:
    found = earlier.find(stored.row(max(stored.receipts)))
    assert (found.state, found.proof, found.epoch) == (ReceiptState.UNANCHORED_FINAL, None, None)


def test_proofs_need_no_static_files(stored: StoredLog, earlier: EarlierBoots) -> None:
    shutil.rmtree(stored.folder / "log")
    for leaf in LEAVES:
        require_proved(stored, leaf, earlier.find(stored.row(leaf)))


def test_rotten_tiles_are_passed_over(stored: StoredLog, earlier: EarlierBoots) -> None:
    for path in (stored.folder / "log" / "tile").rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    for leaf in LEAVES:
        require_proved(stored, leaf, earlier.find(stored.row(leaf)))


def test_full_tile_that_rots_later_is_passed_over(stored: StoredLog, earlier: EarlierBoots) -> None:
    require_proved(stored, 300, earlier.find(stored.row(300)))
    tile = stored.folder / "log" / "tile" / "0" / "000"
    tile.write_bytes(bytes(8192))
    require_proved(stored, 5, earlier.find(stored.row(5)))


def test_damaged_tiles_of_a_long_log_are_told_and_found_again_once_made_afresh(
    stored: StoredLog, index: ReceiptIndex
) -> None:
    # The tail that no tile shows is 297 leaves; the first epoch alone covers 301.
    earlier = EarlierBoots(FileLayer(), stored.data_dir, index, most_reread=300)
    for leaf in LEAVES:
        require_proved(stored, leaf, earlier.find(stored.row(leaf)))
    tile = stored.folder / "log" / "tile" / "0" / "000"
    whole = tile.read_bytes()
    tile.write_bytes(bytes(8192))
    earlier = EarlierBoots(FileLayer(), stored.data_dir, index, most_reread=300)
    for _ in range(2):
        with pytest.raises(UnavailableError) as refusal:
            earlier.find(stored.row(5))
        assert refusal.value.code == "log_tiles_damaged"
        assert "log export" in refusal.value.hint
    tile.write_bytes(whole)
    for leaf in LEAVES:
        require_proved(stored, leaf, earlier.find(stored.row(leaf)))


def test_long_log_without_tiles_is_not_read_again_for_one_receipt(
    stored: StoredLog, index: ReceiptIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(stored.folder / "log")
    earlier = EarlierBoots(FileLayer(), stored.data_dir, index, most_reread=301)
    # The first epoch is over 301 leaves: as many as may be read, and no more are.
    require_proved(stored, 300, earlier.find(stored.row(300)))
    (log,) = earlier._logs.values()
    assert log._tree is not None
    assert log._tree.size == 301
    monkeypatch.setattr(BootSegments, "leaves", None)
    for _ in range(2):
        with pytest.raises(UnavailableError) as refusal:
            earlier.find(stored.row(302))
        assert refusal.value.code == "log_tiles_damaged"


def test_folder_of_an_ended_boot_is_not_modified(stored: StoredLog, earlier: EarlierBoots) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*")}

    before = state()
    earlier.find(stored.row(596))
    assert state() == before


def test_changed_receipt_is_not_handed_out(stored: StoredLog, earlier: EarlierBoots) -> None:
    place = stored.receipts[7]
    path = stored.segments[place.segment]
    content = bytearray(path.read_bytes())
    content[place.offset + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnavailableError) as refusal:
        earlier.find(stored.row(7))
    assert refusal.value.code == "log_unreadable"


def test_damage_in_front_of_a_receipt_withholds_proof_instead_of_guessing(
    stored: StoredLog, earlier: EarlierBoots
) -> None:
    shutil.rmtree(stored.folder / "log")
    place = stored.receipts[7]
    path = stored.segments[place.segment]
    content = bytearray(path.read_bytes())
    content[place.offset + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnavailableError) as refusal:
        earlier.find(stored.row(500))
    assert refusal.value.code == "log_unreadable"


WRONG: list[Callable[[IndexedReceipt], IndexedReceipt]] = [
    lambda row: row._replace(jti=b"x" * 16),
    lambda row: row._replace(sub=b"y" * 32),
    lambda row: row._replace(leaf=8),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_row_that_says_something_else_than_its_record_is_refused(
    stored: StoredLog,
    earlier: EarlierBoots,
    wrong: Callable[[IndexedReceipt], IndexedReceipt],
) -> None:
    with pytest.raises(UnavailableError) as refusal:
        earlier.find(wrong(stored.row(7)))
    assert refusal.value.code == "log_unreadable"


def test_row_that_points_elsewhere_is_refused(stored: StoredLog, earlier: EarlierBoots) -> None:
    row, other = stored.row(7), stored.row(8)
    for offset in (other.offset, row.offset + 1, 1 << 40):
        with pytest.raises(UnavailableError) as refusal:
            earlier.find(row._replace(offset=offset))
        assert refusal.value.code == "log_unreadable"


def test_receipt_that_names_another_owner_than_its_record_is_refused(tmp_path: Path) -> None:
    """Row and record are on a disk that others can write to; what is signed is not."""
    log = StoredLog(tmp_path / "data", owner=b"o" * 32).begin()
    log.serve(3)
    log.close()
    index = ReceiptIndex(FileLayer(), tmp_path / "data", tmp_path / "data" / "i.sqlite", RUNNING)
    row = log.row(2)
    assert row.sub != b"o" * 32
    with pytest.raises(UnavailableError) as refusal:
        EarlierBoots(FileLayer(), tmp_path / "data", index).find(row._replace(sub=b"o" * 32))
    assert refusal.value.code == "log_unreadable"


@pytest.mark.parametrize("name", ["..", "../data/{0}", "{0}/", "", "no such boot"])
def test_boot_that_the_index_names_is_one_of_the_data_folder(
    stored: StoredLog, earlier: EarlierBoots, name: str
) -> None:
    row = stored.row(7)
    with pytest.raises(UnavailableError) as refusal:
        earlier.find(row._replace(boot=name.format(row.boot)))
    assert refusal.value.code == "log_unreadable"


def test_receipt_in_a_deleted_segment_is_told_as_no_longer_kept(
    stored: StoredLog, earlier: EarlierBoots
) -> None:
    place: Location = stored.receipts[7]
    stored.segments[place.segment].unlink()
    with pytest.raises(UnavailableError) as refusal:
        earlier.find(stored.row(7))
    assert refusal.value.code == "log_retired"


def test_receipts_of_several_boots_are_told_apart(tmp_path: Path) -> None:
    logs = [StoredLog(tmp_path / "data", seed=f"boot {n}").begin() for n in range(6)]
    for log in logs:
        log.serve(3)
        log.epoch()
        log.close()
    index = ReceiptIndex(FileLayer(), tmp_path / "data", tmp_path / "data" / "i.sqlite", RUNNING)
    index.start()
    wait_until(lambda: index.complete)
    earlier = EarlierBoots(FileLayer(), tmp_path / "data", index)
    for log in (*logs, *logs):
        require_proved(log, 2, earlier.find(log.row(2)))
    index.close()
