"""The Go project's own packages for notes and tiled logs (golang.org/x/mod/sumdb) read our log.

Debian has them: `apt install golang-go golang-golang-x-mod-dev`.  Without them these tests are
skipped and say so.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attestation.log import Resources
from attestation.merkle.tiles import consistency_path_from_tiles, inclusion_path_from_tiles
from tests.support.tiled_logs import TiledLog, gateway_entries

SOURCE = Path(__file__).with_name("gocheck") / "main.go"
GOPATH = Path("/usr/share/gocode")
PACKAGE = GOPATH / "src/golang.org/x/mod/sumdb"
ENTRIES = gateway_entries(66_000)


@pytest.fixture(scope="module")
def gocheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None or not PACKAGE.is_dir():
        pytest.skip("Go's reader absent: apt install golang-go golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("gocheck")
    program = folder / "gocheck"
    settings = {
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    built = subprocess.run(
        [go, "build", "-o", str(program), str(SOURCE)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return program


def read_by_go(program: Path, log: Path, vkey: str, *more: Path) -> dict[str, Any]:
    told = subprocess.run(
        [str(program), vkey, str(log), *map(str, more)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    report: dict[str, Any] = json.loads(told.stdout)
    return report


def encoded(path: list[bytes]) -> list[str]:
    return [base64.b64encode(node).decode() for node in path]


@pytest.mark.parametrize(("earlier", "size"), [(1, 2), (255, 256), (256, 700), (65_536, 66_000)])
def test_go_reads_our_log_and_makes_the_same_proofs(
    gocheck: Path, tmp_path: Path, earlier: int, size: int
) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    folder = log.write(tmp_path / "log")
    (tmp_path / "earlier").write_text(log.note(earlier))
    report = read_by_go(gocheck, folder, log.vkey_text, tmp_path / "earlier")
    assert (report["size"], report["entries"]) == (size, size)
    read = Resources(log).read_tile
    assert report["consistency"] == encoded(consistency_path_from_tiles(earlier, size, read))
    assert len(report["inclusion"]) > size // 97
    for index, path in report["inclusion"].items():
        assert path == encoded(inclusion_path_from_tiles(int(index), size, read))


def test_go_reads_our_empty_log(gocheck: Path, tmp_path: Path) -> None:
    log = TiledLog(entries=[])
    assert read_by_go(gocheck, log.write(tmp_path), log.vkey_text)["size"] == 0


def test_go_reads_full_tiles_where_partial_ones_are_gone(gocheck: Path, tmp_path: Path) -> None:
    log = TiledLog(entries=ENTRIES[:512])
    log.publish(300)
    for path in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        del log.files[path]
    report = read_by_go(gocheck, log.write(tmp_path), log.vkey_text)
    assert report["entries"] == 300


@pytest.mark.parametrize(
    "path", ["checkpoint", "tile/0/000", "tile/1/000.p/2", "tile/entries/001", "tile/0/002.p/188"]
)
def test_go_refuses_our_log_with_a_byte_changed(gocheck: Path, tmp_path: Path, path: str) -> None:
    log = TiledLog(entries=ENTRIES[:700])
    log.flip(path, 50)
    folder = log.write(tmp_path)
    told = subprocess.run(
        [str(gocheck), log.vkey_text, str(folder)], capture_output=True, check=False
    )
    assert told.returncode == 1


def test_go_refuses_an_earlier_checkpoint_of_another_history(gocheck: Path, tmp_path: Path) -> None:
    log = TiledLog(entries=ENTRIES[:700])
    folder = log.write(tmp_path / "log")
    other = TiledLog(entries=gateway_entries(300, salt=b"other"))
    (tmp_path / "earlier").write_text(other.note(300))
    command = [str(gocheck), log.vkey_text, str(folder), str(tmp_path / "earlier")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
