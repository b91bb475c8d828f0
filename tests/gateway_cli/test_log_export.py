"""`attested log export`: what it writes is what `attested log verify` accepts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from gateway.cli.main import main
from tests.support.stored_logs import StoredLog


@pytest.fixture
def stored(tmp_path: Path) -> StoredLog:
    log = StoredLog(tmp_path / "data").begin()
    log.serve(300)
    log.epoch()
    log.checkpoint()
    log.close()
    return log


def test_exported_log_is_accepted_from_outside(
    stored: StoredLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["log", "export", str(stored.folder), str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["origin"], said["size"]) == (stored.log.made.origin, 302)
    vkey = stored.log.made.keyset.log_vkey
    assert main(["log", "verify", str(out), "--vkey", vkey]) == 0
    assert "302" in capsys.readouterr().out


def test_size_is_told_in_words(
    stored: StoredLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "export", str(stored.folder), str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "302 entries" in told.out
    command = shlex.split(told.err.removeprefix("next: attested "))
    assert main(command) == 0


def test_existing_folder_is_a_usage_error(
    stored: StoredLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert main(["log", "export", str(stored.folder), str(tmp_path / "out")]) == 2
    assert "exists" in capsys.readouterr().err


def test_damaged_segments_give_exit_10(stored: StoredLog, tmp_path: Path) -> None:
    path = stored.segments[1]
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    assert main(["log", "export", str(stored.folder), str(tmp_path / "out")]) == 10


def test_folder_without_a_boot_gives_exit_14(tmp_path: Path) -> None:
    assert main(["log", "export", str(tmp_path / "none"), str(tmp_path / "out")]) == 14
