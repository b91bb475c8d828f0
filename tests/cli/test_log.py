"""`attested log verify` on folders, and where it takes the key from."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.cli import log as command
from attestation.cli.log_folder import Records
from attestation.cli.log_key import LogKey
from attestation.cli.log_limits import TimedSource
from attestation.cli.log_report import Looked, render_records
from attestation.cli.main import main
from attestation.errors import UnavailableError
from attestation.log import LogReport, SignedCheckpoint
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import parse_vkey
from tests.cli.logs import Boot, log_of
from tests.cli.support import Folder, printed
from tests.refusals import refusal
from tests.support.bundles import Gateway


@pytest.fixture
def boot(tmp_path: Path, folder: Folder) -> Boot:
    return Boot(tmp_path / "data", folder.gateway)


def verify(where: Path | str, *arguments: str) -> int:
    return main(["log", "verify", str(where), *arguments])


def test_log_directory_is_verified_with_the_key_given(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(boot.path, "--vkey", boot.log.vkey_text) == 0
    told = capsys.readouterr().out
    assert "as given, NOT checked against a quote" in told
    assert "303 read: 1 boot, 302 receipts, 0 epochs, 0 tasks" in told


def test_key_of_the_boot_beside_the_log_is_used_and_said_to_be_unchecked(
    boot: Boot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(boot.path) == 0
    assert verify(boot.folder) == 0
    monkeypatch.chdir(boot.path)
    assert verify(".") == 0
    assert capsys.readouterr().out.count("NOT checked against a quote: --policy does that") == 3


def test_boot_beside_the_log_is_verified_where_a_policy_is_given(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(boot.path, *folder.grounds) == 15
    assert "whose evidence is SIMULATED" in capsys.readouterr().out


def test_boot_whose_quote_is_refused_decides_the_exit_code(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(boot.path, "--policy", folder["policy.toml"]) == 10
    told = capsys.readouterr()
    assert "whose evidence is REJECTED" in told.out
    assert "QUOTE-GENUINE" in told.err


def test_bundle_s_receipts_and_proofs_are_looked_up_in_the_log(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    boot.gateway.anchored()
    bundle = folder.write("with-proofs.json", boot.gateway.bundle().encode())
    # Bodies and anchors of receipts are `attested verify`'s; here they leave nothing worse open.
    assert verify(boot.path, "--bundle", bundle, *folder.grounds, "--json") == 15
    told = printed(capsys)
    (one,) = told["logs"]
    assert one["bundle"] == {"checkpoints": [3], "included": 3, "beyond": []}
    assert (one["key_from"], one["size"], one["entries"]["receipt"]) == ("bundle", 303, 302)
    assert one["vkey"] == boot.log.vkey_text
    assert told["exit_code"] == 15
    assert verify(boot.path, "--bundle", bundle) == 0
    told_as_text = capsys.readouterr().out
    assert "continues every checkpoint of the bundle: 1" in told_as_text
    assert "of the bundle in their places: the boot's statement, 2 receipts" in told_as_text


def test_receipt_of_the_bundle_that_the_log_lacks_is_refused(boot: Boot, folder: Folder) -> None:
    boot.gateway.exchanged.reverse()
    boot.show(log_of(boot.gateway))
    assert verify(boot.path, "--bundle", folder["bundle.json"]) == 10


def test_receipt_beyond_the_checkpoint_is_told(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    boot.log.files.clear()
    boot.log.publish(2)
    boot.show(boot.log)
    assert verify(boot.path, "--bundle", folder["bundle.json"]) == 0
    assert "receipts of the bundle not yet in this checkpoint: 1" in capsys.readouterr().out


def test_checkpoint_of_the_bundle_that_the_log_does_not_continue_is_refused(
    boot: Boot, folder: Folder
) -> None:
    boot.gateway.anchored()
    bundle = folder.write("with-proofs.json", boot.gateway.bundle().encode())
    boot.log.files.clear()
    boot.log.publish(2)
    boot.show(boot.log)
    assert verify(boot.path, "--bundle", bundle) == 10


def test_bundle_about_other_logs_accuses_no_log_and_is_incomplete(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = Gateway(seed="b")
    other = folder.write("other.json", stranger.bundle().encode())
    assert verify(boot.path, "--bundle", other) == 12
    told = capsys.readouterr().err
    assert "INCOMPLETE: the bundle is about other logs, so this one was not checked" in told
    assert f"the boot whose log is {boot.log.origin}" in told
    assert f"boots of {stranger.origin}" in told
    assert "get the evidence of this one" in told
    empty = folder.write("empty.json", make_bundle().encode())
    assert verify(boot.path, "--bundle", empty) == 12
    assert "boots of none" in capsys.readouterr().err


def test_log_that_the_key_of_its_boot_in_the_bundle_did_not_sign_is_contradicted(
    boot: Boot, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    boot.show(replace(boot.log, key=Gateway(seed="b").log_key))
    assert verify(boot.path, "--bundle", folder["bundle.json"]) == 10
    assert "INCOMPLETE" not in capsys.readouterr().err


def test_boot_beside_a_log_that_is_another_s_contradicts_it(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Gateway(seed="b").bundle(receipts=[]).encode()
    (boot.folder / "boot.json").write_bytes(other)
    assert verify(boot.path) == 10
    assert "the boot beside the log is not the log's" in capsys.readouterr().err


def test_log_that_fails_is_worse_than_one_the_bundle_is_not_about(
    boot: Boot, tmp_path: Path, folder: Folder
) -> None:
    Boot(tmp_path / "data", Gateway(seed="b"))
    assert verify(tmp_path / "data", "--bundle", folder["bundle.json"]) == 12
    boot.log.flip("tile/0/000")
    boot.show(boot.log)
    assert verify(tmp_path / "data", "--bundle", folder["bundle.json"]) == 10


def test_whole_data_folder_is_read_boot_by_boot(
    boot: Boot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Boot(tmp_path / "data", Gateway(seed="b"))
    (tmp_path / "data" / "0123456789abcdef" / "segments").mkdir(parents=True)
    (tmp_path / "data" / "index.sqlite").write_bytes(b"")
    assert verify(tmp_path / "data", "--json") == 12
    told = capsys.readouterr()
    assert "0123456789abcdef' has no log: nothing of this boot is checked" in told.err
    assert json.loads(told.out)["missing"] == [str(tmp_path / "data" / "0123456789abcdef")]
    origins = {one["origin"] for one in json.loads(told.out)["logs"]}
    assert origins == {boot.gateway.origin, other.gateway.origin}


def test_one_bad_log_does_not_hide_the_others(
    boot: Boot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Boot(tmp_path / "data", Gateway(seed="b"))
    boot.log.flip("tile/0/000")
    boot.show(boot.log)
    assert verify(tmp_path / "data") == 10
    told = capsys.readouterr()
    assert f"log {other.gateway.origin}" in told.out
    assert boot.gateway.origin not in told.out
    assert "tile/0/000 does not hold the hashes" in told.err


@pytest.mark.parametrize("others", [True, False])
def test_boot_whose_checkpoint_was_deleted_leaves_the_data_folder_incomplete(
    boot: Boot, tmp_path: Path, capsys: pytest.CaptureFixture[str], others: bool
) -> None:
    if others:
        Boot(tmp_path / "data", Gateway(seed="b"))
    (Path(boot.path) / "checkpoint").unlink()
    assert verify(tmp_path / "data") == 12
    assert verify(boot.folder) == 12
    assert main(["log", "monitor", str(boot.folder), "--state", str(tmp_path / "s")]) == 12
    assert capsys.readouterr().err.count("its log/checkpoint was deleted, or it ended before") == 3


def test_boot_past_retention_is_no_boot_without_a_log(boot: Boot, tmp_path: Path) -> None:
    (tmp_path / "data" / ".0123456789abcdef.expired" / "segments").mkdir(parents=True)
    assert verify(tmp_path / "data") == 0


def test_boot_that_never_served_by_its_records_needs_no_log(boot: Boot, tmp_path: Path) -> None:
    def look(status: str) -> int:
        record = Records(boot=boot.folder.name, status=status, reason="", leaves=0, exit_code=0)
        parser = argparse.ArgumentParser()
        command.configure(parser, read_records=lambda _name: [record])
        return command.run(parser.parse_args(["verify", str(tmp_path / "data")]))

    (Path(boot.path) / "checkpoint").unlink()
    assert look("unborn") == 0
    assert look("whole") == 12


def test_log_longer_than_allowed_is_not_read(
    boot: Boot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(boot.path, "--max-entries", "302") == 14
    told = capsys.readouterr().err
    assert "the log is longer than this look may read" in told
    assert "at most 302 entries" in told
    assert verify(boot.path, "--max-entries", "303") == 0


def test_monitor_is_limited_in_what_it_reads_anew(boot: Boot, tmp_path: Path) -> None:
    arguments = ["log", "monitor", boot.path, "--state", str(tmp_path / "seen.json")]
    boot.log.files.clear()
    boot.log.publish(280)
    boot.show(boot.log)
    assert main([*arguments, "--max-entries", "279"]) == 14
    assert main([*arguments, "--max-entries", "280"]) == 0
    boot.log.publish(303)
    boot.show(boot.log)
    assert main([*arguments, "--max-entries", "22"]) == 14
    assert main([*arguments, "--max-entries", "23"]) == 0


def test_log_of_two_to_the_63_entries_is_given_up_at_once(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = Checkpoint(origin=boot.gateway.origin, size=1 << 63, root=bytes(32))
    boot.log.files["checkpoint"] = boot.log.sign(huge).encode()
    boot.show(boot.log)
    assert verify(boot.path) == 14
    assert f"{1 << 63}" in capsys.readouterr().err


def test_log_that_takes_too_long_is_given_up(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(boot.path, "--timeout", "1e-9") == 14
    assert "--timeout gives more time" in capsys.readouterr().err
    now = [0.0]
    source = TimedSource(boot.log, 5, clock=lambda: now[0])
    now[0] = 5.0
    assert source.read("checkpoint", limit=9999) is not None
    now[0] = 5.1
    assert refusal(source.read, "checkpoint", limit=9999, error=UnavailableError) == "log_timeout"


@pytest.mark.parametrize(
    "limit",
    [
        "--max-entries=0",
        "--max-entries=many",
        f"--max-entries={1 << 64}",
        "--timeout=0",
        "--timeout=nan",
        "--timeout=inf",
    ],
)
def test_limit_out_of_bounds_is_refused(boot: Boot, limit: str) -> None:
    assert verify(boot.path, limit) == 2


FORGED = "b\n  tiles       all of them\x1b[2J\u202e"


def test_names_in_a_folder_cannot_write_a_verdict_of_their_own(
    boot: Boot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boot.folder.rename(tmp_path / "data" / FORGED)
    bad = Boot(tmp_path / "data", Gateway(seed="b"))
    bad.log.flip("tile/0/000")
    bad.show(bad.log)
    bad.folder.rename(tmp_path / "data" / f"{FORGED}2")
    record = Records(boot=FORGED, status="foreign", reason=FORGED, leaves=None, exit_code=10)
    parser = argparse.ArgumentParser()
    command.configure(parser, read_records=lambda _name: [record])
    assert command.run(parser.parse_args(["verify", str(tmp_path / "data")])) == 10
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert "tiles       all of them" in text
        assert all(line.isprintable() for line in text.split("\n"))
        assert not any(line.startswith("  tiles       all of them") for line in text.split("\n"))


def test_place_that_cannot_be_looked_into_is_said_to_be_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name of a path is too long, and the whole is, as soon as `checkpoint` is added."""
    monkeypatch.chdir(tmp_path)
    folder = Path(*["d" * 250] * 16, "e" * 74)
    folder.mkdir(parents=True)
    assert verify(folder) == 14


def test_log_without_a_key_is_not_verified(boot: Boot, capsys: pytest.CaptureFixture[str]) -> None:
    (boot.folder / "boot.json").unlink()
    assert verify(boot.path) == 2
    assert "nothing says which key the log is signed with" in capsys.readouterr().err


def test_key_that_is_none_is_refused(boot: Boot) -> None:
    assert verify(boot.path, "--vkey", "example.com+00000000+AAAA") == 13


@pytest.mark.parametrize("where", ["", "/nonexistent/folder", "https://h/v1/log", "unix:/run/s"])
def test_place_without_a_log_is_refused(tmp_path: Path, where: str) -> None:
    assert verify(where or tmp_path, "--vkey", "x") == 2


@pytest.mark.parametrize("path", ["checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"])
def test_log_with_a_changed_file_is_refused(boot: Boot, path: str) -> None:
    boot.log.flip(path, 7)
    boot.show(boot.log)
    assert verify(boot.path) == 10
    (Path(boot.path) / path).unlink()
    assert verify(boot.path, "--vkey", boot.log.vkey_text) == (2 if path == "checkpoint" else 10)


def test_file_larger_than_any_tile_is_refused_unread(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    with (Path(boot.path) / "tile/0/000").open("ab") as file:
        file.truncate(1 << 40)
    assert verify(boot.path) == 13
    assert "tile/0/000 is too large" in capsys.readouterr().err


def test_folder_in_place_of_a_file_is_a_file_that_is_missing(boot: Boot) -> None:
    (Path(boot.path) / "tile/0/000").unlink()
    (Path(boot.path) / "tile/0/000").mkdir()
    assert verify(boot.path) == 10


def test_file_that_cannot_be_read_is_said_to_be_unavailable(
    boot: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == "000":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert verify(boot.path) == 14


def test_records_read_beside_the_log_are_told_and_decide_with_it(
    boot: Boot, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(*arguments: str, code: int = 10) -> int:
        found = Records(boot="b", status="damaged", reason="why", leaves=7, exit_code=code)
        other = Records(boot="c", status="whole", reason="", leaves=None, exit_code=0)
        parser = argparse.ArgumentParser()
        command.configure(parser, read_records=lambda _name: [found, other])
        return command.run(parser.parse_args(["verify", boot.path, *arguments]))

    assert look("--json") == 10
    told = printed(capsys)["records"][0]
    assert told == {"boot": "b", "status": "damaged", "reason": "why", "leaves": 7}
    assert look(code=0) == 0
    assert "records of b: damaged, 7 entries: why\nrecords of c: whole\n" in capsys.readouterr().out
    boot.log.flip("tile/0/000")
    boot.show(boot.log)
    assert look(code=0) == 10


def test_members_of_a_report_are_documented(boot: Boot, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "verifying.md").read_text("utf-8")
    assert verify(boot.path, "--json") == 0
    told = printed(capsys)
    named = {*told, *told["logs"][0], *told["logs"][0]["bundle"], "boot", "status", "leaves"}
    assert all(f"`{name}`" in text for name in named)
    assert told["schema"] in text


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["log"], ["log", "verify"], ["log", "monitor"]):
        assert main([*arguments, "--help"]) == 0
        assert "attested log monitor https://gateway:8443/v1/log" in capsys.readouterr().out
    assert main(["log"]) == 2


@pytest.mark.parametrize(
    ("name", "leaves", "lines"), [("0123456789abcdef", 5, 2), ("0123456789abcdef", 3, 1)]
)
def test_records_that_go_on_after_the_static_log_are_told(
    boot: Boot, name: str, leaves: int, lines: int
) -> None:
    checkpoint = Checkpoint(origin="gateway/0123456789abcdef", size=3, root=bytes(32))
    report = LogReport(
        signed=SignedCheckpoint(checkpoint=checkpoint, note=""),
        read_from=0,
        counts={},
        consistent=(),
        included=1,
        beyond=(),
    )
    key = LogKey(vkey=parse_vkey(boot.log.vkey_text), source="boot")
    held = [Looked(name="x", key=key, report=report)]
    records = Records(boot=name, status="torn", reason="", leaves=leaves, exit_code=0)
    told = render_records(records, held).splitlines()
    assert len(told) == lines
    assert ("the static log lacks the last 2 of them" in told[-1]) == (lines == 2)
    assert len(render_records(replace(records, boot="f" * 16), held).splitlines()) == 1
