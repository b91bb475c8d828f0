"""The index: every durable receipt is found; the file may be lost, late, early or rotten."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from gateway.notary.files import FileLayer
from gateway.notary.log.database import IndexDatabase, IndexedReceipt, Position
from gateway.notary.log.index import ReceiptIndex, leaves_seen
from tests.support.stored_logs import StoredLog

RUNNING = "f" * 16


class Events:
    """What an index said, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.changed = threading.Condition()

    def __call__(self, event: str) -> None:
        with self.changed:
            self.told.append(event)
            self.changed.notify_all()


def opened(data_dir: Path, events: Events | None = None) -> ReceiptIndex:
    index = ReceiptIndex(
        FileLayer(), data_dir, data_dir / "index.sqlite", RUNNING, events or Events()
    )
    index.start()
    return index


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask until it holds: the thread says nothing when it is done."""
    for _ in range(4000):
        if holds():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never came to hold")


def when_complete(index: ReceiptIndex) -> ReceiptIndex:
    """Wait until everything on disk was read."""
    wait_until(lambda: index.complete)
    return index


def caught_up(data_dir: Path, events: Events | None = None) -> ReceiptIndex:
    return when_complete(opened(data_dir, events))


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[StoredLog]:
    """A boot that ended: nine receipts in three segments, two epochs."""
    log = StoredLog(tmp_path / "data").begin()
    for _ in range(3):
        log.serve(3)
        if len(log.epochs) < 2:
            log.epoch()
    yield log
    log.close()


def require_all_found(index: ReceiptIndex, log: StoredLog) -> None:
    for leaf in log.receipts:
        row = log.row(leaf)
        assert index.get(row.jti) == row


def test_receipts_and_epochs_of_ended_boots_are_found(stored: StoredLog) -> None:
    index = caught_up(stored.data_dir)
    require_all_found(index, stored)
    for leaf in stored.receipts:
        covering = [
            tuple(place) for epoch, place, _ in stored.epochs if epoch.statement.size > leaf
        ]
        assert index.epochs_covering(stored.name, leaf) == covering
    assert index.get(b"?" * 16) is None
    index.close()


def test_running_boot_is_found_before_and_after_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    index = caught_up(tmp_path / "data")
    rows = [
        IndexedReceipt(bytes([n]) * 16, RUNNING, 0, 100 + n, n, b"s" * 32, b"d" * 32)
        for n in range(50)
    ]
    for row in rows:
        index.add(row)
        assert index.get(row.jti) == row
    wait_until(lambda: not index._recent)
    assert [index.get(row.jti) for row in rows] == rows
    index.close()


def test_rows_leave_memory_once_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    index = opened(tmp_path / "data")
    for n in range(1000):
        index.add(
            IndexedReceipt(n.to_bytes(16, "big"), RUNNING, 0, 100 + n, n, b"s" * 32, b"d" * 32)
        )
    index.close()
    assert index._recent == {}
    database = IndexDatabase(tmp_path / "data" / "index.sqlite", create=False)
    assert database.receipt((7).to_bytes(16, "big")) is not None
    assert database.position(RUNNING) == Position(
        segment=0, offset=1099, leaf=999, digest=b"d" * 32
    )
    database.close()


def test_only_the_missing_tail_is_read_at_the_next_start(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()

    class Reading(FileLayer):
        def __init__(self) -> None:
            self.opened: list[str] = []

        def open(self, path: Path) -> int:
            self.opened.append(path.name)
            return super().open(path)

    stored.serve(2)
    layer = Reading()
    path = stored.data_dir / "index.sqlite"
    index = ReceiptIndex(layer, stored.data_dir, path, RUNNING)
    index.start()
    require_all_found(when_complete(index), stored)
    index.close()
    # Besides the first one's header, to see whose folder it is.
    last = stored.receipts[9].segment  # where the index had stopped
    unread = {path.name for path in stored.segments[1:last]}
    assert unread
    assert not unread & set(layer.opened)


def test_lost_index_is_made_again(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()
    (stored.data_dir / "index.sqlite").unlink()
    index = caught_up(stored.data_dir)
    require_all_found(index, stored)
    index.close()


def found_all(index: ReceiptIndex, log: StoredLog) -> bool:
    try:
        require_all_found(index, log)
    except UnavailableError:
        return False
    return True


def rotten_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be read as one" * 100)


def other_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()


def other_tables(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE receipts")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("spoil", [rotten_bytes, no_database, other_version, other_tables])
def test_index_that_cannot_be_used_is_made_again(stored: StoredLog, spoil: object) -> None:
    caught_up(stored.data_dir).close()
    spoil(stored.data_dir / "index.sqlite")  # type: ignore[operator]
    events = Events()
    index = caught_up(stored.data_dir, events)
    # Rot that only a look-up finds makes it be made again as well.
    wait_until(lambda: found_all(index, stored))
    assert "index_rebuilt" in events.told
    index.close()


def test_index_ahead_of_a_log_forgets_what_is_not_there(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()
    last = stored.segments[-1]
    assert leaves_seen(stored.data_dir / "index.sqlite") == {stored.name: 12}
    lost = max(stored.receipts)
    place = stored.receipts[lost]
    content = last.read_bytes()
    assert place.segment == int(last.stem)
    last.write_bytes(content[: place.offset])
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(lost).jti) is None
    for leaf in stored.receipts:
        if leaf < lost:
            assert index.get(stored.row(leaf).jti) == stored.row(leaf)
    index.close()
    # How much there once was is remembered: that is how the survey sees it.
    assert leaves_seen(stored.data_dir / "index.sqlite") == {stored.name: 12}


def test_damaged_log_is_indexed_up_to_the_damage(stored: StoredLog) -> None:
    leaves = sorted(stored.receipts)
    broken = stored.receipts[leaves[4]]
    path = stored.segments[broken.segment]
    content = bytearray(path.read_bytes())
    content[broken.offset + 80] ^= 1
    path.write_bytes(content)
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(leaves[3]).jti) == stored.row(leaves[3])
    assert index.get(stored.row(leaves[4]).jti) is None
    index.close()


def test_folder_under_another_name_is_not_indexed(stored: StoredLog) -> None:
    stored.folder.rename(stored.data_dir / ("0" * 16))
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(1).jti) is None
    index.close()


def test_boot_whose_folder_is_gone_is_forgotten(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()
    stored.folder.rename(stored.data_dir / "elsewhere")
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(1).jti) is None
    index.close()
    assert leaves_seen(stored.data_dir / "index.sqlite") == {}


def test_old_boots_are_not_modified(stored: StoredLog) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        return {
            path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in stored.folder.rglob("*")
            if path.is_file()
        }

    before = state()
    index = caught_up(stored.data_dir)
    require_all_found(index, stored)
    index.close()
    assert state() == before


def test_unwritable_index_keeps_receipts_findable_in_memory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "index.sqlite").mkdir()  # sqlite cannot open a folder
    events = Events()
    index = opened(tmp_path / "data", events)
    row = IndexedReceipt(b"j" * 16, RUNNING, 0, 1, 1, b"s" * 32, b"d" * 32)
    index.add(row)
    with events.changed:
        assert events.changed.wait_for(lambda: "index_failed" in events.told, 60)
    assert index.get(row.jti) == row
    with pytest.raises(UnavailableError) as refusal:
        index.get(b"k" * 16)
    assert refusal.value.code == "index_incomplete"
    index.close()


def test_nothing_is_said_not_to_exist_before_everything_was_read(stored: StoredLog) -> None:
    index = ReceiptIndex(FileLayer(), stored.data_dir, stored.data_dir / "index.sqlite", RUNNING)
    for ask in (lambda: index.get(b"k" * 16), lambda: index.epochs_covering(stored.name, 0)):
        with pytest.raises(UnavailableError) as refusal:
            ask()
        assert refusal.value.code == "index_incomplete"
    index.close()


def test_rows_of_deleted_segments_and_boots_can_be_forgotten(stored: StoredLog) -> None:
    index = caught_up(stored.data_dir)
    first = [leaf for leaf, place in stored.receipts.items() if place.segment == 0]
    index.forget_segments(stored.name, 1)
    index.close()
    database = IndexDatabase(stored.data_dir / "index.sqlite", create=False)
    for leaf in stored.receipts:
        assert (database.receipt(stored.row(leaf).jti) is None) == (leaf in first)
    database.forget_boot(stored.name)
    assert all(database.receipt(stored.row(leaf).jti) is None for leaf in stored.receipts)
    database.close()


def test_hint_about_leaves_is_nothing_without_a_readable_index(tmp_path: Path) -> None:
    assert leaves_seen(tmp_path / "index.sqlite") == {}
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 1000)
    assert leaves_seen(tmp_path / "index.sqlite") == {}


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_link_in_place_of_the_index_is_not_followed(stored: StoredLog, suffix: str) -> None:
    target = stored.data_dir.parent / "elsewhere"
    target.write_bytes(b"not the host's")
    link = stored.data_dir / f"index.sqlite{suffix}"
    link.symlink_to(target)
    assert leaves_seen(stored.data_dir / "index.sqlite") == {}
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(7).jti) == stored.row(7)
    index.close()
    assert target.read_bytes() == b"not the host's"
    assert not link.is_symlink()


def test_hint_about_leaves_is_nothing_of_another_type(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()
    path = stored.data_dir / "index.sqlite"
    assert leaves_seen(path) == {stored.name: len(stored.log.entries)}
    with sqlite3.connect(path) as host:
        host.execute("UPDATE boots SET most = 'many'")
    host.close()
    assert leaves_seen(path) == {}


def test_position_of_another_type_is_none(stored: StoredLog) -> None:
    caught_up(stored.data_dir).close()
    with sqlite3.connect(stored.data_dir / "index.sqlite") as host:
        host.execute("UPDATE boots SET segment = 'first', offset = x'00'")
        host.execute("UPDATE epochs SET segment = 'first', offset = 'first'")
    host.close()
    index = caught_up(stored.data_dir)
    assert index.get(stored.row(7).jti) == stored.row(7)
    index.close()


def test_disk_that_does_not_let_the_index_be_looked_at_says_nothing_of_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "exists", fail)
    assert leaves_seen(tmp_path / "index.sqlite") == {}
