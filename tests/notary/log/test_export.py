"""The static files: at every moment one consistent log, as an outsider's check sees it."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.log import Held, Resources, audit_log, read_checkpoint
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import parse_vkey, sign_note, vkey_for
from attestation.merkle.tiles import Tile
from attestation.merkle.tree import leaf_hash, root_hash
from gateway.notary.files import FileLayer
from gateway.notary.log.export import Exporter, StaticLog, tile_loader
from gateway.notary.log.tree import TileTree
from tests.crash.faults import Fault, FaultyLayer
from tests.support.bundles import Gateway
from tests.support.stored_logs import platform

ENTRIES = [
    (b"\x01" if number else b"\x00") + number.to_bytes(32, "big") for number in range(70_000)
]


class Exported:
    """A tree and its folder; notes are signed by a key of their own."""

    def __init__(self, folder: Path, layer: FileLayer | None = None) -> None:
        self.made = Gateway(platform=platform())
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.layer = layer or FileLayer()
        self.tree = TileTree(tile_loader(self.layer, folder))
        self.log = StaticLog(self.layer, folder, self.tree)
        self.vkey = parse_vkey(
            vkey_for(self.made.origin, self.made.log_key.public_key().public_bytes_raw())
        )

    def grow(self, size: int) -> None:
        while self.tree.size < size:
            self.tree.append(ENTRIES[self.tree.size])

    def note(self, size: int) -> str:
        root = root_hash([leaf_hash(entry) for entry in ENTRIES[:size]])
        text = Checkpoint(origin=self.made.origin, size=size, root=root).text
        return sign_note(text, self.made.origin, self.made.log_key)

    def write(self, size: int) -> None:
        self.grow(size)
        self.log.write(size, self.note(size))


class Folder:
    """A source for the outsider's check."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str, *, limit: int) -> bytes | None:  # noqa: ARG002 - of the protocol
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError:
            return None


def size_seen(exported: Exported, folder: Path) -> int:
    """The size of the log in a folder, checked whole: signature, every tile, every entry."""
    resources = Resources(Folder(folder))
    signed = read_checkpoint(resources.checkpoint(), exported.vkey)
    audit_log(resources, signed, held=Held())
    return signed.checkpoint.size


SIZES = [1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 1100]


def test_folder_shows_one_consistent_log_at_every_size(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    for size in SIZES:
        exported.write(size)
        assert size_seen(exported, tmp_path / "log") == size
        assert exported.log.size == size


def test_large_log_is_exported_in_one_step(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    exported.write(66_000)
    assert size_seen(exported, tmp_path / "log") == 66_000
    assert len(exported.tree._fresh) < 10


def test_files_hold_the_exact_bytes_that_http_serves(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    exported.write(700)
    exported.tree.publish(700)
    files = [p for p in (tmp_path / "log").rglob("*") if p.is_file() and p.name != "checkpoint"]
    assert len(files) == 7
    for path in files:
        resource = str(path.relative_to(tmp_path / "log"))
        assert exported.tree.read_resource(resource) == path.read_bytes()


def test_exported_tiles_leave_memory_and_proofs_still_hold(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    exported.write(1100)
    assert list(exported.tree.unexported()) == []
    root = exported.tree.root
    assert exported.tree.proved_path(entry=ENTRIES[9], index=9, size=1100, root=root)


def test_partial_tiles_go_only_when_the_full_one_is_there(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    for size in (10, 200, 255):
        exported.write(size)
    partial = tmp_path / "log" / "tile" / "0" / "000.p"
    assert sorted(path.name for path in partial.iterdir()) == ["10", "200", "255"]
    exported.write(256)
    assert not partial.exists()
    assert (tmp_path / "log" / "tile" / "0" / "000").exists()
    assert not list((tmp_path / "log").rglob("*.tmp"))


class Watching(FileLayer):
    """Shows the folder to an outsider before every call that changes it."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look

    def create(self, path: Path) -> int:
        self.look()
        return super().create(path)

    def rename(self, old: Path, new: Path) -> None:
        self.look()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self.look()
        super().remove(path)

    def remove_folder(self, path: Path) -> None:
        self.look()
        super().remove_folder(path)


def test_reader_at_any_moment_sees_a_consistent_log(tmp_path: Path) -> None:
    seen: list[int] = []
    folder = tmp_path / "log"

    def look() -> None:
        if (folder / "checkpoint").exists():
            seen.append(size_seen(exported, folder))

    exported = Exported(folder, Watching(look))
    for size in (1, 200, 300, 520, 800):
        exported.write(size)
    assert seen == sorted(seen)
    assert set(seen) == {1, 200, 300, 520, 800}


@pytest.mark.parametrize("fault", [Fault.EIO, Fault.ENOSPC, Fault.SHORT])
def test_every_call_failing_once_leaves_an_earlier_log_or_this_one(
    tmp_path: Path, fault: Fault
) -> None:
    layer = FaultyLayer(FileLayer())
    exported = Exported(tmp_path / "log", layer)
    exported.write(200)
    before = len(layer.calls)
    shutil.copytree(tmp_path / "log", tmp_path / "before")
    exported.write(600)
    for at in range(before, len(layer.calls)):
        faulty = FaultyLayer(FileLayer(), at=at, fault=fault)
        again = Exported(tmp_path / f"log{at}", faulty)
        again.write(200)
        if fault is Fault.SHORT:
            again.write(600)
        else:
            with pytest.raises(OSError, match="o"):
                again.write(600)
        assert faulty.violations == []
        assert size_seen(again, tmp_path / f"log{at}") in (200, 600)


def test_exporter_writes_the_newest_checkpoint_and_the_last_one_at_the_end(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    failures: list[bool] = []
    exporter = Exporter(exported.log, seconds=3600, on_failure=lambda: failures.append(True))
    exported.grow(300)
    exporter.note(1, exported.note(1))
    exporter.note(5, exported.note(5))
    exporter.start()
    exporter.note(300, exported.note(300))
    exporter.close()
    assert size_seen(exported, tmp_path / "log") == exporter.exported == 300
    assert failures == []


def test_exporter_that_was_told_nothing_ends_at_once(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    exporter = Exporter(exported.log, seconds=3600, on_failure=lambda: None)
    exporter.close()
    exporter.start()
    exporter.close()
    assert list((tmp_path / "log").iterdir()) == []


def test_failing_export_is_told_once_and_never_tried_again(tmp_path: Path) -> None:
    class Failing(FileLayer):
        calls = 0

        def create(self, _path: Path) -> int:
            self.calls += 1
            raise OSError(errno.ENOSPC, "no space")

    layer = Failing()
    exported = Exported(tmp_path / "log", layer)
    exported.grow(1)
    failed = threading.Event()
    exporter = Exporter(exported.log, seconds=0.001, on_failure=failed.set)
    exporter.start()
    exporter.note(1, exported.note(1))
    assert failed.wait(60)
    calls = layer.calls
    exporter.note(1, exported.note(1))
    exporter.close()
    assert layer.calls == calls


def test_missing_partial_tile_is_cut_from_the_full_one(tmp_path: Path) -> None:
    exported = Exported(tmp_path / "log")
    exported.write(300)
    load = tile_loader(FileLayer(), tmp_path / "log")
    full = load(Tile(level=0, index=0))
    assert load(Tile(level=0, index=0, width=7)) == full[: 7 * 32]
    with pytest.raises(FileNotFoundError):
        load(Tile(level=0, index=9, width=7))
