"""Go's own packages (golang.org/x/mod/sumdb) read our log, make our proofs, refuse our mutants."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from attestation.log import Resources
from attestation.merkle.tiles import consistency_path_from_tiles, inclusion_path_from_tiles
from tests.independent.conftest import GoReader, report_of
from tests.support.tiled_logs import TiledLog, gateway_entries

ENTRIES = gateway_entries(66_000)


def encoded(path: list[bytes]) -> list[str]:
    return [base64.b64encode(node).decode() for node in path]


@pytest.mark.parametrize(("earlier", "size"), [(1, 2), (255, 256), (256, 700), (65_536, 66_000)])
def test_go_reads_our_log_and_makes_the_same_proofs(
    gocheck: GoReader, tmp_path: Path, earlier: int, size: int
) -> None:
    log = TiledLog(entries=ENTRIES[:size])
    folder = log.write(tmp_path / "log")
    (tmp_path / "earlier").write_text(log.note(earlier))
    report = report_of(gocheck(log.vkey_text, folder, tmp_path / "earlier"))
    assert (report["size"], report["entries"]) == (size, size)
    read = Resources(log).read_tile
    assert report["consistency"] == encoded(consistency_path_from_tiles(earlier, size, read))
    assert len(report["inclusion"]) > size // 97
    for index, path in report["inclusion"].items():
        assert path == encoded(inclusion_path_from_tiles(int(index), size, read))


def test_go_reads_our_empty_log(gocheck: GoReader, tmp_path: Path) -> None:
    log = TiledLog(entries=[])
    assert report_of(gocheck(log.vkey_text, log.write(tmp_path)))["size"] == 0


def test_go_reads_full_tiles_where_partial_ones_are_gone(gocheck: GoReader, tmp_path: Path) -> None:
    log = TiledLog(entries=ENTRIES[:512])
    log.publish(300)
    for path in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        del log.files[path]
    report = report_of(gocheck(log.vkey_text, log.write(tmp_path)))
    assert report["entries"] == 300


@pytest.mark.parametrize(
    "path", ["checkpoint", "tile/0/000", "tile/1/000.p/2", "tile/entries/001", "tile/0/002.p/188"]
)
def test_go_refuses_our_log_with_a_byte_changed(
    gocheck: GoReader, tmp_path: Path, path: str
) -> None:
    log = TiledLog(entries=ENTRIES[:700])
    log.flip(path, 50)
    folder = log.write(tmp_path)
    assert gocheck(log.vkey_text, folder).returncode == 1


def test_go_refuses_an_earlier_checkpoint_of_another_history(
    gocheck: GoReader, tmp_path: Path
) -> None:
    log = TiledLog(entries=ENTRIES[:700])
    folder = log.write(tmp_path / "log")
    other = TiledLog(entries=gateway_entries(300, salt=b"other"))
    (tmp_path / "earlier").write_text(other.note(300))
    told = gocheck(log.vkey_text, folder, tmp_path / "earlier")
    assert told.returncode == 1
    assert "gocheck:" in told.stderr
