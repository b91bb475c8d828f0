"""Files that commands replace: whole or not at all, with nothing left beside them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from attestation.cli.durable import create_durably, write_durably, write_privately


def test_file_is_replaced_whole_with_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for data in (b"a long first state", b"short", b""):
        write_durably(path, data)
        assert path.read_bytes() == data
        assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_private_file_is_its_owners_alone_whatever_it_was_before(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for before in (None, 0o644, 0o600):
        if before is not None:
            path.chmod(before)
        write_privately(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [one.name for one in tmp_path.iterdir()] == ["keys.json"]


def test_link_is_replaced_and_what_it_named_stays(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / "state").symlink_to("other")
    write_durably(tmp_path / "state", b"ours")
    assert not (tmp_path / "state").is_symlink()
    assert (tmp_path / "other").read_bytes() == b"theirs"


def test_failed_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path / "folder", b"data")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "absent" / "state", b"data")


def test_disk_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_file_is_made_only_where_nothing_is(tmp_path: Path) -> None:
    create_durably(tmp_path / "state", b"first")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "state", b"second")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "link", b"second")
    assert (tmp_path / "state").read_bytes() == b"first"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "state"]


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_file_that_is_replaced_keeps_who_may_read_and_write_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_durably(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"
