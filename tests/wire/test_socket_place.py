"""Where the notary's socket may lie."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from attestation.errors import UsageError
from gateway.notary.wire.socket import (
    MAX_PATH_BYTES,
    bind_notary_socket,
    bind_shared_socket,
)


def test_socket_lies_in_a_folder_of_its_own_user(tmp_path: Path) -> None:
    path = tmp_path / "run" / "notary.sock"
    with bind_notary_socket(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        # It is served, so nobody else may take its place.
        with pytest.raises(UsageError) as caught:
            bind_notary_socket(path)
        assert caught.value.code == "notary_socket"
    # What a killed process left behind is replaced.
    bind_notary_socket(path).close()


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        bind_notary_socket(tmp_path / "notary.sock")
    assert (caught.value.expected, caught.value.observed) == ("a folder with mode 0700", "0755")


@pytest.mark.parametrize("name", ["n" * MAX_PATH_BYTES, "absent/further/n.sock"])
def test_path_that_cannot_hold_a_socket_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        bind_notary_socket(tmp_path / name)
    assert "notary.socket" in caught.value.hint


def test_file_in_its_place_is_not_removed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "notary.sock"
    path.write_text(json.dumps("keep"))
    with pytest.raises(UsageError):
        bind_notary_socket(path)
    assert path.exists()


def test_shared_socket_is_open_to_the_group_of_its_folder_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    path = tmp_path / "notary.sock"
    with bind_shared_socket(path):
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.stat().st_gid == tmp_path.stat().st_gid
        with pytest.raises(UsageError):
            bind_shared_socket(path)
    bind_shared_socket(path).close()


@pytest.mark.parametrize("mode", [0o770, 0o751, 0o754, 0o752, 0o777])
def test_shared_folder_that_others_may_enter_or_its_group_may_change_is_refused(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(UsageError) as caught:
        bind_shared_socket(tmp_path / "notary.sock")
    assert caught.value.observed == f"mode {mode:04o}"
    assert not (tmp_path / "notary.sock").exists()


def test_shared_folder_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    with pytest.raises(UsageError) as caught:
        bind_shared_socket(folder / "notary.sock")
    assert not folder.exists()
    assert f"the folder {folder}," in caught.value.expected
    assert caught.value.observed == "no such folder"
    assert f"install -d -m 0750 -o {os.geteuid()} " in caught.value.hint
    assert str(folder) in caught.value.hint


def test_file_in_place_of_the_shared_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        bind_shared_socket(tmp_path / "file" / "notary.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: no folder can be given to another user")
def test_shared_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o750)
    os.chown(folder, 61_001, 61_001)
    with pytest.raises(UsageError) as caught:
        bind_shared_socket(folder / "notary.sock")
    assert caught.value.observed == "one of user 61001"
