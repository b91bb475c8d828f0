"""Packs are built twice with the same bytes, hold what was locked, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation.cli.main import main as attested
from attestation.encoding.digest import Digest
from attestation.release.gpt import HEAD_BYTES, parse_head
from attestation.release.packs import PackKind, parse_pack_description, seeds_of
from enclave_image.packs.__main__ import main

needs_mkfs = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None, reason="mkfs.erofs (erofs-utils) is not installed"
)
needs_fsck = pytest.mark.skipif(
    shutil.which("fsck.erofs") is None, reason="fsck.erofs (erofs-utils) is not installed"
)
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 999, "sub/a.json": b"[]"}


def write(folder: Path, names: list[str]) -> Path:
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(FILES[name])
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "model", list(FILES))


@pytest.fixture
def lock(model: Path, tmp_path: Path) -> Path:
    file = tmp_path / "model.lock"
    assert attested(["model", "lock", str(model), "--name", "org/tiny", "-o", str(file)]) == 0
    return file


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/run").write_bytes(b"#!/bin/sh\n")
    (folder / "bin/run").chmod(0o4750)
    (folder / "bin/python").symlink_to("/usr/bin/python3")
    (folder / "lib.py").write_bytes(b"pass\n")
    return folder


def build_model(folder: Path, lock: Path, output: Path) -> int:
    return main(["model", str(folder), str(lock), "-o", str(output)])


def build_engine(folder: Path, output: Path) -> int:
    return main(["engine", str(folder), "--name", "vllm", "--version", "1", "-o", str(output)])


def erofs_of(pack: Path) -> bytes:
    content = pack.read_bytes()
    layout = parse_head(content[:HEAD_BYTES])
    return content[layout.data_start : layout.data_start + layout.data_bytes]


def unpacked(pack: Path, folder: Path) -> Path:
    """What fsck.erofs takes out of the file system again."""
    image = folder / "erofs"
    image.write_bytes(erofs_of(pack))
    target = folder / "out"
    subprocess.run(
        ["fsck.erofs", f"--extract={target}", image], check=True, capture_output=True, text=True
    )
    return target


@needs_mkfs
def test_model_pack_is_the_same_whatever_the_files_times_modes_and_order(
    model: Path, lock: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", list(FILES)[::-1])
    for place in other.rglob("*.json"):
        place.chmod(0o600)
        os.utime(place, (1, 1))
    (other / ".hidden").write_bytes(b"no part of the model")
    first, second = tmp_path / "1.raw", tmp_path / "2.raw"
    assert build_model(model, lock, first) == 0
    assert build_model(other, lock, second) == 0
    assert first.read_bytes() == second.read_bytes()
    assert Path(f"{first}.json").read_bytes() == Path(f"{second}.json").read_bytes()


@needs_mkfs
def test_model_pack_is_what_its_description_says(
    model: Path, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.raw"
    assert build_model(model, lock, output) == 0
    told = parse_pack_description(Path(f"{output}.json").read_bytes())
    assert capsys.readouterr().out.split()[-1] == told.argument
    assert told.digest_of_file == Digest.of(output.read_bytes())
    assert told.lock == Digest.of(lock.read_bytes())
    assert (told.kind, told.size) == (PackKind.MODEL, output.stat().st_size)
    assert attested(["release", "pack", str(output), "--root", told.root.hex]) == 0


@needs_mkfs
def test_file_system_has_the_fixed_uuid_and_time(model: Path, lock: Path, tmp_path: Path) -> None:
    assert build_model(model, lock, tmp_path / "model.raw") == 0
    block = erofs_of(tmp_path / "model.raw")[1024:1152]
    assert block[:4] == bytes.fromhex("e2e1f5e0")
    assert block[12] == 12, "blocks of 4096 bytes"
    expected = seeds_of(PackKind.MODEL, Digest.of(lock.read_bytes())).erofs_uuid
    assert block[48:64] == expected.bytes
    assert int.from_bytes(block[24:32], "little") == 1793491200


@needs_mkfs
@needs_fsck
def test_model_pack_holds_the_locked_files_and_the_lock(
    model: Path, lock: Path, tmp_path: Path
) -> None:
    (model / "extra.json").write_bytes(b"came later")
    assert build_model(model, lock, tmp_path / "model.raw") == 0
    out = unpacked(tmp_path / "model.raw", tmp_path)
    found = {
        place.relative_to(out).as_posix(): place.read_bytes()
        for place in out.rglob("*")
        if place.is_file()
    }
    assert found == FILES | {".attested/model.lock": lock.read_bytes()}
    assert attested(["model", "verify", str(out), str(out / ".attested/model.lock")]) == 0


@needs_mkfs
@pytest.mark.parametrize("place", ["data", "tree"])
def test_altered_byte_of_a_pack_is_refused(
    place: str, model: Path, lock: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model.raw"
    assert build_model(model, lock, output) == 0
    content = bytearray(output.read_bytes())
    layout = parse_head(bytes(content[:HEAD_BYTES]))
    at = layout.data_start + 5000 if place == "data" else layout.verity_start + 4096
    content[at] ^= 1
    output.write_bytes(bytes(content))
    assert attested(["release", "pack", str(output)]) == 10


@needs_mkfs
def test_another_byte_in_a_model_is_another_root_hash(
    model: Path, lock: Path, tmp_path: Path
) -> None:
    assert build_model(model, lock, tmp_path / "1.raw") == 0
    changed = bytearray(FILES["model.safetensors"])
    changed[70_000] ^= 1
    (model / "model.safetensors").write_bytes(bytes(changed))
    # The lock of the other bytes does not cover these: nothing is built, and nothing stays behind.
    assert build_model(model, lock, tmp_path / "2.raw") == 10
    assert sorted(one.name for one in tmp_path.iterdir() if "2.raw" in one.name) == []
    assert not list(tmp_path.glob(".pack-*"))
    lock.unlink()
    assert attested(["model", "lock", str(model), "--name", "org/tiny", "-o", str(lock)]) == 0
    assert build_model(model, lock, tmp_path / "2.raw") == 0
    roots = [json.loads((tmp_path / f"{n}.raw.json").read_bytes())["root"] for n in (1, 2)]
    assert roots[0] != roots[1]


@needs_mkfs
def test_engine_pack_is_the_same_twice_and_modes_are_two(engine: Path, tmp_path: Path) -> None:
    assert build_engine(engine, tmp_path / "1.raw") == 0
    (engine / "bin/run").chmod(0o700)
    os.utime(engine / "lib.py", (1, 1))
    assert build_engine(engine, tmp_path / "2.raw") == 0
    assert (tmp_path / "1.raw").read_bytes() == (tmp_path / "2.raw").read_bytes()


@needs_mkfs
@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "bin/run").chmod(0o600),
        lambda folder: (folder / "lib.py").write_bytes(b"pasS\n"),
        lambda folder: (folder / "lib.py").rename(folder / "lic.py"),
        lambda folder: (folder / "bin/link").symlink_to("run"),
    ],
)
def test_another_engine_is_another_root_hash(
    change: Callable[[Path], object], engine: Path, tmp_path: Path
) -> None:
    assert build_engine(engine, tmp_path / "1.raw") == 0
    change(engine)
    assert build_engine(engine, tmp_path / "2.raw") == 0
    described = [parse_pack_description((tmp_path / f"{n}.raw.json").read_bytes()) for n in (1, 2)]
    assert described[0].root != described[1].root
    assert described[0].lock != described[1].lock


@needs_mkfs
@needs_fsck
def test_engine_pack_keeps_links_and_executables(engine: Path, tmp_path: Path) -> None:
    assert build_engine(engine, tmp_path / "engine.raw") == 0
    out = unpacked(tmp_path / "engine.raw", tmp_path)
    assert os.readlink(out / "bin/python") == "/usr/bin/python3"  # noqa: PTH115
    assert (out / "bin/run").read_bytes() == b"#!/bin/sh\n"
    assert json.loads((out / ".attested/engine.json").read_bytes())["files"] == 3


@needs_mkfs
def test_what_cannot_go_into_an_engine_pack_is_refused(engine: Path, tmp_path: Path) -> None:
    output = tmp_path / "engine.raw"
    os.mkfifo(engine / "pipe")
    assert build_engine(engine, output) == 14
    (engine / "pipe").unlink()
    (engine / ".attested").mkdir()
    (engine / ".attested/engine.json").write_bytes(b"{}")
    assert build_engine(engine, output) == 14
    assert not output.exists()


@needs_mkfs
def test_folder_without_an_engine_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engine/bin").mkdir(parents=True)
    assert build_engine(tmp_path / "engine", tmp_path / "engine.raw") == 2
    told = capsys.readouterr().err
    assert "there is no engine in it" in told
    assert "take it out" not in told
    assert not (tmp_path / "engine.raw").exists()


@pytest.mark.parametrize(
    ("name", "version"),
    [("a b/..", "1"), ("vllm", ""), ("", "1"), ("vllm", ".."), ("vllm", "1 2"), ("v/m", "1")],
)
def test_engine_whose_lock_nobody_could_read_back_is_refused(
    name: str, version: str, engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "engine.raw"
    arguments = ["engine", str(engine), "--name", name, "--version", version, "-o", str(output)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "is not usable in an engine's lock" in told
    assert "seen" in told
    assert not output.exists()


@needs_mkfs
def test_missing_file_of_a_model_is_told(model: Path, lock: Path, tmp_path: Path) -> None:
    (model / "config.json").unlink()
    assert build_model(model, lock, tmp_path / "model.raw") == 14


def test_nothing_is_replaced(model: Path, lock: Path, tmp_path: Path) -> None:
    (tmp_path / "model.raw").write_bytes(b"mine")
    assert build_model(model, lock, tmp_path / "model.raw") == 2
    assert (tmp_path / "model.raw").read_bytes() == b"mine"


def test_folder_that_is_not_there_is_refused(lock: Path, tmp_path: Path) -> None:
    assert build_model(tmp_path / "absent", lock, tmp_path / "model.raw") == 2


def test_missing_tool_is_named(
    model: Path, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["model", str(model), str(lock), "-o", str(tmp_path / "m.raw"), "--mkfs", "/absent"]
    assert main(arguments) == 14
    assert "erofs-utils" in capsys.readouterr().err


def test_tool_that_fails_leaves_nothing_behind(model: Path, lock: Path, tmp_path: Path) -> None:
    tool = tmp_path / "mkfs"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    output = tmp_path / "m.raw"
    assert main(["model", str(model), str(lock), "-o", str(output), "--mkfs", str(tool)]) == 14
    assert not output.exists()
    assert not list(tmp_path.glob(".pack-*"))


@needs_mkfs
@pytest.mark.slow
def test_tree_of_a_pack_that_is_read_in_several_parts_is_whole(tmp_path: Path) -> None:
    folder, lock = tmp_path / "large", tmp_path / "large.lock"
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        # Beyond 128 blocks of hashes, each over 128 blocks of data: 64 MiB.
        for number in range(70):
            file.seek(number << 20)
            file.write(bytes([number]) * 5000)
        file.truncate(70 << 20)
    assert attested(["model", "lock", str(folder), "--name", "large", "-o", str(lock)]) == 0
    assert build_model(folder, lock, tmp_path / "large.raw") == 0
    root = parse_head((tmp_path / "large.raw").read_bytes()[:HEAD_BYTES]).root.hex()
    assert attested(["release", "pack", str(tmp_path / "large.raw"), "--root", root]) == 0
