"""The static log made afresh from segments: the same files, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from attestation.errors import EvidenceError, UnavailableError, UsageError
from attestation.log import Held, Resources, audit_log, read_checkpoint
from gateway.notary.files import FileLayer
from gateway.notary.log.rebuild import rebuild_log
from tests.notary.log.test_export import Folder
from tests.support.stored_logs import StoredLog

LAYER = FileLayer()


@pytest.fixture
def stored(tmp_path: Path) -> StoredLog:
    log = StoredLog(tmp_path / "data", segment_bytes=60_000).begin()
    for _ in range(3):
        log.serve(200)
        log.epoch()
    log.serve(4)
    log.checkpoint()
    log.serve(2)  # no checkpoint covers these
    return log


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_rebuilt_log_is_the_exported_one(stored: StoredLog, tmp_path: Path) -> None:
    stored.checkpoint()
    stored.export()
    stored.close()
    rebuild_log(LAYER, stored.folder, tmp_path / "out")
    rebuilt = files_in(tmp_path / "out")
    assert rebuilt == files_in(stored.folder / "log")


def test_rebuilt_log_ends_at_the_last_signed_checkpoint(stored: StoredLog, tmp_path: Path) -> None:
    stored.close()
    signed = rebuild_log(LAYER, stored.folder, tmp_path / "out")
    assert signed.checkpoint.size == len(stored.log.entries) - 2
    resources = Resources(Folder(tmp_path / "out"))
    seen = read_checkpoint(resources.checkpoint(), stored.log.made.keyset.log_key)
    audit_log(resources, seen, held=Held())
    assert seen.checkpoint == signed.checkpoint


def test_torn_log_is_rebuilt_as_far_as_it_was_signed(stored: StoredLog, tmp_path: Path) -> None:
    stored.close()
    path = stored.segments[-1]
    path.write_bytes(path.read_bytes()[:-3])
    signed = rebuild_log(LAYER, stored.folder, tmp_path / "out")
    assert signed.checkpoint.size == len(stored.log.entries) - 2


def test_damaged_log_is_refused(stored: StoredLog, tmp_path: Path) -> None:
    stored.close()
    place = stored.receipts[300]
    path = stored.segments[place.segment]
    content = bytearray(path.read_bytes())
    content[place.offset + 99] ^= 1
    path.write_bytes(content)
    with pytest.raises(EvidenceError) as refusal:
        rebuild_log(LAYER, stored.folder, tmp_path / "out")
    assert "damaged" in str(refusal.value)


def test_existing_folder_is_not_written_into(stored: StoredLog, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError):
        rebuild_log(LAYER, stored.folder, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_log_whose_oldest_segments_are_gone_is_refused(stored: StoredLog, tmp_path: Path) -> None:
    stored.close()
    stored.segments[0].unlink()
    with pytest.raises(UnavailableError) as refusal:
        rebuild_log(LAYER, stored.folder, tmp_path / "out")
    assert refusal.value.code == "log_retired"


def test_boot_that_never_served_has_no_log(tmp_path: Path) -> None:
    log = StoredLog(tmp_path / "data")
    log.close()
    with pytest.raises(UnavailableError) as refusal:
        rebuild_log(LAYER, log.folder, tmp_path / "out")
    assert refusal.value.code == "unborn"


def test_folder_that_is_no_boot_folder_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refusal:
        rebuild_log(LAYER, tmp_path / "nothing", tmp_path / "out")
    assert refusal.value.code == "log_unreadable"
