"""What goes into a pack: names that it needs itself, what is no file, and the surroundings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from attestation.release.gpt import HEAD_BYTES, parse_head
from attestation.statement.model_lock import LockedFile, ModelLock, Role
from enclave_image.packs.__main__ import main
from enclave_image.packs.build import PACK_TIME
from enclave_image.packs.stage import place_lock, settle, stage_model, unsettle
from tests.image_packs.test_building import build_engine, needs_mkfs

TOOL = """#!/bin/sh
/usr/bin/env > {seen}
for word in "$@"; do image=$last; last=$word; done
/usr/bin/head -c 4096 /dev/zero > "$image"
"""


def locked(path: str, content: bytes) -> ModelLock:
    file = LockedFile(path=path, role=Role.OTHER, sha256=Digest.of(content), size=len(content))
    return ModelLock(model="org/tiny", files=(file,))


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    folder.mkdir()
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/a.py").write_bytes(b"pass\n")
    (folder / "lib64").symlink_to("lib")
    return folder


@pytest.mark.parametrize("path", [".attested/model.lock", ".attested/other", ".attested"])
def test_lock_that_lists_a_file_where_the_lock_itself_goes_is_refused(
    path: str, staged: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    (model / path).parent.mkdir(parents=True, exist_ok=True)
    (model / path).write_bytes(b"mine")
    with pytest.raises(UnavailableError, match="lies where the pack's own lock goes"):
        stage_model(model, locked(path, b"mine"), staged)
    assert not list(staged.iterdir())


def test_lock_never_takes_the_place_of_a_file(staged: Path) -> None:
    place_lock(staged, ".attested/model.lock", b"lock")
    with pytest.raises(FileExistsError):
        place_lock(staged, ".attested/model.lock", b"other")


@pytest.mark.parametrize("target", ["/dev/zero", "pipe", "folder"])
def test_what_is_no_file_is_not_read_as_one(target: str, staged: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "folder").mkdir(parents=True)
    os.mkfifo(model / "pipe")
    (model / "weights").symlink_to(target)
    with pytest.raises(UnavailableError, match="is no file"):
        stage_model(model, locked("weights", b""), staged)


def test_everything_that_is_staged_has_one_time(staged: Path) -> None:
    (staged / "lib").mkdir()
    (staged / "lib/a").write_bytes(b"")
    (staged / "lib64").symlink_to("lib")
    (staged / "a").symlink_to("lib/a")
    settle(staged, time=PACK_TIME)
    try:
        paths = [staged, *staged.rglob("*")]
        assert {path.name: path.lstat().st_mtime for path in paths} == dict.fromkeys(
            ["staged", "lib", "lib64", "a"], PACK_TIME
        )
    finally:
        unsettle(staged)


def test_tool_hears_neither_of_an_epoch_nor_of_a_language(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, tool = tmp_path / "seen", tmp_path / "mkfs"
    tool.write_text(TOOL.format(seen=seen))
    tool.chmod(0o755)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    arguments = ["engine", str(engine), "--name", "vllm", "--version", "1"]
    assert main([*arguments, "-o", str(tmp_path / "e.raw"), "--mkfs", str(tool)]) == 0
    lines = seen.read_text().splitlines()
    assert "LC_ALL=C" in lines
    assert not [line for line in lines if line.startswith("SOURCE_DATE_EPOCH=")]


@needs_mkfs
def test_pack_is_the_same_whatever_the_environment_says(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "1.raw", tmp_path / "2.raw"
    assert build_engine(engine, first) == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12345")
    assert build_engine(engine, second) == 0
    roots = {parse_head(one.read_bytes()[:HEAD_BYTES]).root for one in (first, second)}
    assert len(roots) == 1


@pytest.mark.parametrize("name", ["e.raw", "e.raw.json"])
@pytest.mark.parametrize("is_link", [True, False])
def test_neither_pack_nor_description_takes_the_place_of_anything(
    name: str, is_link: bool, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / name
    place.symlink_to("nowhere") if is_link else place.write_bytes(b"mine")
    assert build_engine(engine, tmp_path / "e.raw") == 2
    assert f"{name}' exists" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
    assert is_link or place.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"engine", name}


def test_folder_that_cannot_be_written_is_told(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["engine", str(engine), "--name", "vllm", "--version", "1", "--mkfs", "/bin/true"]
    assert main([*arguments, "-o", str(tmp_path / "absent/e.raw")]) == 14
    assert "cannot be made" in capsys.readouterr().err
