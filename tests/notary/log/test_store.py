"""The store: durable before it answers, in one order, and nothing after the first failure."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from gateway.notary.files import FileLayer
from gateway.notary.log.folder import SEGMENTS, open_data_dir, segment_name
from gateway.notary.log.segments import (
    Kind,
    Location,
    encode_record,
    parse_header,
    parse_segment,
)
from gateway.notary.log.store import LogStore
from tests.crash.faults import Fault, FaultyLayer

SEED = bytes(range(32))
FILES = {"boot.json": b"evidence", "root.pem": b"root"}


def new_store(folder: Path, layer: FileLayer | None = None, size: int = 1000) -> LogStore:
    folder.mkdir(mode=0o700, exist_ok=True)
    return LogStore.create(layer or FileLayer(), folder, FILES, SEED, size)


def frame(text: str, kind: Kind = Kind.RECEIPT) -> bytes:
    return encode_record(kind, text.encode())


def written(store: LogStore) -> list[bytes]:
    """The payloads on disk, in order, batch marks and headers apart."""
    found: list[bytes] = []
    for path in sorted((store.folder / SEGMENTS).iterdir()):
        records = parse_segment(path.read_bytes())
        found += [r.payload for r in records if r.kind not in (Kind.HEADER, Kind.BATCH)]
    return found


def test_new_store_has_evidence_a_first_segment_and_private_modes(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d")
    assert store.folder.name == SEED.hex()[:16]
    assert (store.folder / "boot.json").read_bytes() == b"evidence"
    assert (store.folder / "root.pem").read_bytes() == b"root"
    for path in (store.folder, *store.folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0
    (record,) = parse_segment((store.folder / SEGMENTS / "000000.seg").read_bytes())
    header = parse_header(record)
    assert (header.bootseed, header.number, header.first_leaf) == (SEED, 0, 0)
    store.close()


def test_appended_records_are_read_back_from_where_they_are(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d", size=400)
    placed: dict[Location, str] = {}
    for number in range(40):
        texts = [f"{number}/{place}" * 3 for place in range(number % 4 + 1)]
        locations = store.append([frame(text) for text in texts])
        placed.update(zip(locations, texts, strict=True))
    assert {location: store.read(location).payload.decode() for location in placed} == placed
    assert [payload.decode() for payload in written(store)] == list(placed.values())
    assert store.leaves == len(placed)
    assert len({location.segment for location in placed}) > 8
    store.close()


def test_segments_are_chained_and_batches_numbered_through(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d", size=300)
    for number in range(20):
        store.append([frame(f"receipt {number}"), frame("note", Kind.CHECKPOINT)])
    store.close()
    before, leaves, batches = bytes(32), 0, []
    for number, path in enumerate(sorted((store.folder / SEGMENTS).iterdir())):
        assert path.name == segment_name(number)
        first, *records = parse_segment(path.read_bytes())
        header = parse_header(first)
        assert (header.number, header.first_leaf, header.before) == (number, leaves, before)
        leaves += sum(record.kind is Kind.RECEIPT for record in records)
        batches += [int.from_bytes(r.payload, "big") for r in records if r.kind is Kind.BATCH]
        last = records[-1]
        before = hashlib.sha256(encode_record(last.kind, last.payload)).digest()
    assert batches == list(range(20))
    assert leaves == 20


def test_batch_is_never_cut_by_a_segment_boundary(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d", size=300)
    store.append([frame("a")])
    locations = store.append([frame("x" * 200), frame("y" * 200)])
    assert [location.segment for location in locations] == [1, 1]
    # A batch larger than a segment has one of its own.
    assert {location.segment for location in store.append([frame("z" * 500)])} == {2}
    assert {location.segment for location in store.append([frame("small")])} == {3}
    store.close()


def test_record_that_changed_on_disk_is_not_handed_out(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d")
    (location,) = store.append([frame("receipt")])
    with (store.folder / SEGMENTS / "000000.seg").open("r+b") as file:
        file.seek(location.offset + 6)
        file.write(b"X")
    for place in (location, Location(0, location.offset + 1), Location(0, 1 << 40)):
        with pytest.raises(UnavailableError) as refusal:
            store.read(place)
        assert refusal.value.code == "log_unreadable"
    with pytest.raises(UnavailableError) as refusal:
        store.read(Location(7, 0))
    assert refusal.value.code == "log_retired"
    store.close()


def test_closed_store_takes_and_gives_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d")
    (location,) = store.append([frame("receipt")])
    store.close()
    store.close()
    with pytest.raises(OSError, match="takes nothing"):
        store.append([frame("late")])
    with pytest.raises(UnavailableError):
        store.read(location)


def test_existing_boot_folder_is_never_written_to(tmp_path: Path) -> None:
    new_store(tmp_path / "d").close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")}
    with pytest.raises(UnavailableError):
        new_store(tmp_path / "d")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")} == before


def calls_of_a_life(folder: Path, layer: FaultyLayer) -> tuple[list[str], LogStore | None]:
    """Create, append three batches over two segments; return what was released."""
    released: list[str] = []
    try:
        store = new_store(folder, layer, size=220)
    except UnavailableError:
        return released, None
    for number in range(3):
        texts = [f"{number}/{place}" * 9 for place in range(2)]
        try:
            store.append([frame(text) for text in texts])
        except OSError:
            continue
        released += texts
    return released, store


@pytest.mark.parametrize("fault", list(Fault))
def test_every_call_failing_once_loses_nothing_that_was_released(
    tmp_path: Path, fault: Fault
) -> None:
    layer = FaultyLayer(FileLayer())
    released, _ = calls_of_a_life(tmp_path / "whole", layer)
    assert len(released) == 6
    for at in range(len(layer.calls)):
        faulty = FaultyLayer(FileLayer(), at=at, fault=fault)
        released, store = calls_of_a_life(tmp_path / f"{at}", faulty)
        assert faulty.violations == []
        if store is None:
            continue
        on_disk: list[str] = []
        try:
            on_disk = [payload.decode() for payload in written(store)]
        except Exception:  # noqa: BLE001 - a torn end is expected here, and judged elsewhere
            assert faulty.hit is not None
        if on_disk:
            assert on_disk[: len(released)] == released
        # The first failure is final: a later batch was refused, not written.
        hit = faulty.hit
        if hit is not None and fault is not Fault.SHORT and hit.name != "close":
            assert len(released) < 6
        store.close()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("sync_data", errno.EIO),
        ("write", errno.ENOSPC),
        ("write", errno.EIO),
        ("create", errno.EMFILE),
    ],
)
def test_after_a_failure_no_call_is_made_any_more(tmp_path: Path, name: str, code: int) -> None:
    class Failing(FileLayer):
        armed = False
        calls = 0

        def _maybe(self, call: str) -> None:
            self.calls += self.armed
            if self.armed and call == name:
                raise OSError(code, "made to fail")

        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            self._maybe("write")
            return super().write(descriptor, data)

        def sync_data(self, descriptor: int) -> None:
            self._maybe("sync_data")
            super().sync_data(descriptor)

        def create(self, path: Path) -> int:
            self._maybe("create")
            return super().create(path)

    layer = Failing()
    store = new_store(tmp_path / "d", layer, size=250)
    store.append([frame("x" * 200)])
    layer.armed = True
    with pytest.raises(OSError, match="made to fail"):
        store.append([frame("y" * 200)])
    calls = layer.calls
    for _ in range(3):
        with pytest.raises(OSError, match="takes nothing"):
            store.append([frame("z")])
    assert layer.calls == calls
    assert store.leaves == 1


def test_write_that_takes_nothing_is_a_failure(tmp_path: Path) -> None:
    class Nothing(FileLayer):
        def write(self, _descriptor: int, _data: bytes | memoryview) -> int:
            return 0

    with pytest.raises(UnavailableError):
        new_store(tmp_path / "d", Nothing())


def test_old_segments_can_be_retired_while_the_log_goes_on(tmp_path: Path) -> None:
    store = new_store(tmp_path / "d", size=200)
    locations = [store.append([frame(f"receipt {number}" * 5)])[0] for number in range(8)]
    last = locations[-1].segment
    assert last > 3
    future = 1e12
    assert store.retire(covered=0, before=future) == []
    assert store.retire(covered=100, before=0.0) == []
    assert store.retire(covered=2, before=future) == [0, 1]
    assert store.retire(covered=100, before=future) == list(range(2, last))
    with pytest.raises(UnavailableError) as refusal:
        store.read(locations[0])
    assert refusal.value.code == "log_retired"
    assert store.read(locations[-1]).payload.decode() == "receipt 7" * 5
    store.append([frame("later")])
    store.close()


def test_many_segments_are_read_with_few_open_files(tmp_path: Path) -> None:
    class Counting(FileLayer):
        live = 0
        most = 0

        def _note(self, change: int) -> None:
            self.live += change
            self.most = max(self.most, self.live)

        def create(self, path: Path) -> int:
            self._note(1)
            return super().create(path)

        def open(self, path: Path) -> int:
            self._note(1)
            return super().open(path)

        def close(self, descriptor: int) -> None:
            self._note(-1)
            super().close(descriptor)

    layer = Counting()
    store = new_store(tmp_path / "d", layer, size=120)
    locations = [store.append([frame(f"{number}" * 20)])[0] for number in range(60)]
    for number, location in enumerate(locations):
        assert store.read(location).payload.decode() == f"{number}" * 20
    assert layer.most < 25
    store.close()
    assert layer.live == 0


def test_data_folder_is_made_private_and_locked(tmp_path: Path) -> None:
    layer = FileLayer()
    lock = open_data_dir(layer, tmp_path / "d")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
    with pytest.raises(UnavailableError) as refusal:
        open_data_dir(layer, tmp_path / "d")
    assert "another notary" in str(refusal.value)
    layer.close(lock)
    layer.close(open_data_dir(layer, tmp_path / "d"))


def test_data_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o755)
    with pytest.raises(UnavailableError) as refusal:
        open_data_dir(FileLayer(), tmp_path / "d")
    assert "chmod 700" in str(refusal.value)


def test_data_folder_that_is_a_file_or_has_no_parent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "no" / "parent"):
        with pytest.raises(UnavailableError) as refusal:
            open_data_dir(FileLayer(), path)
        assert refusal.value.code == "data_dir"


def test_segment_numbers_end() -> None:
    with pytest.raises(UnavailableError):
        segment_name(10**6)
