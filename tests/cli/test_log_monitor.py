"""`attested log monitor` on folders: what it remembers, and what it never lets pass."""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.cli import log as command
from attestation.cli.log_folder import address_of
from attestation.cli.log_memory import StateFile
from attestation.cli.main import main
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, UsageError
from attestation.log import parse_state
from attestation.statement import PreviousBoot
from tests.cli.logs import Boot, log_of
from tests.cli.support import Folder, printed
from tests.refusals import refusal
from tests.support.bundles import NOW, Gateway
from tests.support.tiled_logs import TiledLog, gateway_entries


@pytest.fixture
def boot(tmp_path: Path, folder: Folder) -> Boot:
    return Boot(tmp_path / "data", folder.gateway)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "seen.json"


def monitor(where: Path | str, state: Path, *arguments: str) -> int:
    return main(["log", "monitor", str(where), "--state", str(state), *arguments])


def test_monitor_remembers_and_reads_on(
    boot: Boot, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boot.log.publish(280)
    boot.show(boot.log)
    assert monitor(boot.path, state) == 0
    assert "seen for the first time" in capsys.readouterr().out
    boot.log.publish(303)
    boot.show(boot.log)
    assert monitor(boot.path, state) == 0
    told = capsys.readouterr().out
    assert "47 read from index 256 on" in told
    assert "continues the size 280 that was seen before" in told
    last = parse_state(state.read_bytes()).last(boot.log.vkey)
    assert last is not None
    assert last.checkpoint.size == 303
    assert monitor(boot.path, state, "--whole", "--json") == 0
    (one,) = printed(capsys)["logs"]
    assert (one["read_from"], one["seen_before"], one["size"]) == (0, 303, 303)


def test_monitor_reads_no_entry_again_that_it_has_checked(boot: Boot, state: Path) -> None:
    assert monitor(boot.path, state) == 0
    (Path(boot.path) / "tile/entries/000").unlink()
    assert monitor(boot.path, state) == 0
    assert monitor(boot.path, state, "--whole") == 10


def proofs(state: Path) -> list[str]:
    return [path.read_text() for path in sorted(state.parent.glob("seen.json.conflict-*.note"))]


@pytest.mark.parametrize(
    ("size", "salt", "message"),
    [
        (299, b"", "the log has become shorter"),
        (300, b"other", "the log has signed two histories"),
        (600, b"other", "the log has signed two histories"),
    ],
    ids=["shrunk", "two roots", "fork"],
)
def test_log_that_contradicts_what_it_showed_leaves_a_proof(
    boot: Boot,
    state: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
    salt: bytes,
    message: str,
) -> None:
    first = TiledLog(entries=gateway_entries(300))
    boot.show(first)
    key = ["--vkey", first.vkey_text]
    assert monitor(boot.path, state, *key) == 0
    remembered = state.read_bytes()
    later = TiledLog(entries=gateway_entries(size, salt=salt))
    boot.show(later)
    for _ in range(2):
        assert monitor(boot.path, state, *key) == 10
        told = capsys.readouterr().err
        assert message in told
        assert told.count("kept as proof: ") == 2
    assert state.read_bytes() == remembered
    assert proofs(state) == [first.note(300), later.note(size)]


def test_damage_is_no_proof_of_two_histories(boot: Boot, state: Path) -> None:
    boot.log.publish(280)
    boot.show(boot.log)
    assert monitor(boot.path, state) == 0
    boot.log.publish(303)
    boot.log.flip("tile/0/001.p/47")
    boot.show(boot.log)
    remembered = state.read_bytes()
    assert monitor(boot.path, state) == 10
    assert (proofs(state), state.read_bytes()) == ([], remembered)


def test_log_with_a_new_key_under_the_old_name_is_refused(boot: Boot, state: Path) -> None:
    assert monitor(boot.path, state) == 0
    stranger = replace(boot.log, key=Gateway(seed="b").log_key, files={}, asked=[])
    boot.show(stranger)
    assert monitor(boot.path, state, "--vkey", stranger.vkey_text) == 10


def successor(tmp_path: Path, previous: str) -> Boot:
    named = PreviousBoot(checkpoint=previous, quote_digest=Digest.of(b"quote"))
    return Boot(tmp_path / "data", Gateway(seed="b", prev=named))


def test_restarted_gateway_is_another_log_that_follows_the_one_before(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    assert monitor(boot.path, state) == 0
    assert monitor(successor(tmp_path, boot.log.note(303)).path, state) == 0
    origins = parse_state(state.read_bytes()).logs
    assert len(origins) == 2


def test_restart_from_an_older_copy_of_the_log_is_noticed(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    assert monitor(boot.path, state) == 0
    assert monitor(successor(tmp_path, boot.log.note(200)).path, state) == 10
    assert proofs(state) == [boot.log.note(303), boot.log.note(200)]


def served(tmp_path: Path, boot: Boot) -> Path:
    """What one address shows, which today is the log of this boot."""
    place = tmp_path / "served"
    shutil.rmtree(place, ignore_errors=True)
    return Path(shutil.copytree(boot.folder, place))


def boot_after(tmp_path: Path, previous: str | None, seed: str = "b", age: int = 0) -> Boot:
    prev = None
    if previous is not None:
        prev = PreviousBoot(checkpoint=previous, quote_digest=Digest.of(b"quote"))
    changes = {"time_claimed": NOW + age}
    return Boot(tmp_path / "data", Gateway(seed=seed, prev=prev, statement_changes=changes))


def connection(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    (one,) = printed(capsys)["logs"]
    return one["continuity"], one["continuity_reason"]


@pytest.mark.parametrize("chain", ["none", "never seen"])
def test_new_log_that_continues_none_is_told_until_it_is_accepted(
    boot: Boot, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], chain: str
) -> None:
    place = served(tmp_path, boot)
    assert monitor(place, state, "--json") == 0
    assert connection(capsys) == ("first", "seen for the first time: its boot names none before it")
    unseen = Boot(tmp_path / "elsewhere", Gateway(seed="c"))
    note = None if chain == "none" else unseen.log.note(9)
    served(tmp_path, boot_after(tmp_path, note))
    for _ in range(2):
        assert monitor(place, state) == 12
        told = capsys.readouterr().out
        assert "NOT shown to continue any log seen here before: its boot names " in told
        assert (unseen.gateway.origin in told) == (chain == "never seen")
        assert "--accept-new-log takes this log as a new one" in told
    assert monitor(place, state, "--accept-new-log", "--json") == 0
    assert connection(capsys)[0] == "accepted"
    assert monitor(place, state, "--json") == 0
    assert connection(capsys) == ("same", "")


def test_log_that_was_not_accepted_is_remembered_all_the_same(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    place = served(tmp_path, boot)
    assert monitor(place, state) == 0
    other = boot_after(tmp_path, None)
    served(tmp_path, other)
    assert monitor(place, state) == 12
    other.log.files.clear()
    other.log.publish(200)
    other.show(other.log)
    served(tmp_path, other)
    assert monitor(place, state, "--accept-new-log") == 10
    assert len(proofs(state)) == 2


def test_boot_after_one_that_was_not_accepted_is_not_accepted_by_that(
    boot: Boot, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = served(tmp_path, boot)
    assert monitor(place, state) == 0
    stranger = boot_after(tmp_path, None)
    served(tmp_path, stranger)
    assert monitor(place, state) == 12
    after = boot_after(tmp_path, stranger.log.note(301), seed="c")
    served(tmp_path, after)
    assert monitor(place, state) == 12
    assert "which continued none either" in capsys.readouterr().out
    served(tmp_path, stranger)
    assert monitor(place, state, "--accept-new-log") == 0
    served(tmp_path, after)
    assert monitor(place, state) == 0
    assert f"follows {stranger.gateway.origin}, seen before" in capsys.readouterr().out


def test_key_alone_cannot_show_that_a_log_is_continued(
    boot: Boot, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = served(tmp_path, boot)
    assert monitor(place, state, "--vkey", boot.log.vkey_text) == 0
    nothing = "with --vkey alone nothing says which log it follows"
    assert nothing in capsys.readouterr().out
    after = boot_after(tmp_path, boot.log.note(303))
    served(tmp_path, after)
    assert monitor(place, state, "--vkey", after.log.vkey_text) == 12
    assert nothing in capsys.readouterr().out
    assert monitor(place, state) == 0


def test_boot_put_aside_between_two_looks_is_found_where_it_still_is(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    assert monitor(tmp_path / "data", state) == 0
    between = boot_after(tmp_path, boot.log.note(303), age=5)
    boot_after(tmp_path, between.log.note(301), seed="c", age=9)
    assert monitor(tmp_path / "data", state) == 0
    assert len(parse_state(state.read_bytes()).logs) == 3


def test_other_address_may_show_an_unconnected_log(
    boot: Boot, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor(boot.path, state) == 0
    other = Boot(tmp_path / "elsewhere", Gateway(seed="b"))
    assert monitor(other.path, state) == 0
    assert "it continues none of the logs known from elsewhere (1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("https://gateway:8443/v1/log/", "https://gateway:8443/v1/log"),
        ("unix:/run/a b.sock", "unix:/run/a%20b.sock"),
        ("/srv/../d\udcff\n", "/d%FF%0A"),
    ],
)
def test_address_is_remembered_in_one_form(name: str, address: str) -> None:
    assert address_of(name) == address


def test_new_logs_are_not_accepted_for_ever(boot: Boot, state: Path) -> None:
    assert monitor(boot.path, state, "--interval", "9", "--accept-new-log") == 2
    assert not state.exists()


def test_boot_that_cannot_be_read_does_not_keep_the_others_from_being_looked_at(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    bad = boot_after(tmp_path, boot.log.note(303))
    (bad.folder / "boot.json").write_bytes(b"{}")
    Boot(tmp_path / "data", Gateway(seed="c"))
    (tmp_path / "data" / "0123456789abcdef" / "segments").mkdir(parents=True)
    assert monitor(tmp_path / "data", state) == 13
    assert len(parse_state(state.read_bytes()).logs) == 2


def test_predecessor_never_seen_is_no_reason_to_refuse_at_a_first_look(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    assert monitor(successor(tmp_path, boot.log.note(200)).path, state) == 0


def test_whole_data_folder_is_monitored(boot: Boot, state: Path, tmp_path: Path) -> None:
    successor(tmp_path, boot.log.note(303))
    assert monitor(tmp_path / "data", state) == 0
    assert len(parse_state(state.read_bytes()).logs) == 2
    assert monitor(tmp_path / "data", state) == 0


# the state file


def test_two_monitors_of_one_state_file_do_not_run_together(boot: Boot, state: Path) -> None:
    with StateFile(str(state)).locked():
        assert monitor(boot.path, state) == 2
    assert monitor(boot.path, state) == 0


def test_state_that_cannot_be_written_is_refused(
    boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert monitor(boot.path, tmp_path / "absent" / "seen.json") == 2
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
        assert monitor(boot.path, tmp_path / "seen.json") == 2
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(38, "no locks")))
    file = StateFile(str(tmp_path / "locked"))
    assert refusal(file.locked().__enter__, error=UsageError) == "state"


def test_state_that_is_damaged_is_not_taken_for_an_empty_one(
    boot: Boot, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.write_bytes(b"{}")
    assert monitor(boot.path, state) == 13
    assert state.read_bytes() == b"{}"
    assert "is not what a monitor remembered" in capsys.readouterr().err


def test_state_file_may_have_any_name(
    boot: Boot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert monitor(boot.path, Path("-")) == 0
    assert monitor(boot.path, Path("-")) == 0
    assert parse_state((tmp_path / "-").read_bytes()).logs


# looking again and again


class EndedError(Exception):
    """The test's clock has run out."""


def looks(boot: Boot, state: Path, *steps: Any, interval: str = "5") -> int:
    """Run the loop; before every look but the first one step is done."""
    left = list(steps)

    def sleep(seconds: float) -> None:
        assert seconds == float(interval)
        if not left:
            raise EndedError
        left.pop(0)()

    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = ["monitor", boot.path, "--state", str(state), "--interval", interval]
    return command.run(parser.parse_args(arguments), sleep)


def test_monitor_looks_again_until_the_log_lies(
    boot: Boot, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def grow() -> None:
        boot.log.publish(303)
        boot.show(boot.log)

    def lie() -> None:
        boot.show(log_of(boot.gateway, more=20))

    boot.log.publish(250)
    boot.show(boot.log)
    with pytest.raises(EvidenceError, match="the log has become shorter"):
        looks(boot, state, grow, lie, lie)
    assert capsys.readouterr().out.count("checkpoint  size") == 2


def test_monitor_looks_again_at_what_did_not_answer(
    boot: Boot, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **more: Any) -> Any:
        if self.name == "checkpoint":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EndedError):
        looks(boot, state, monkeypatch.undo)
    told = capsys.readouterr()
    assert "cannot read" in told.err
    assert told.out.count("checkpoint  size 303") == 1


def test_monitor_ends_with_the_code_of_a_log_among_several_that_lies(
    boot: Boot, state: Path, tmp_path: Path
) -> None:
    Boot(tmp_path / "data", Gateway(seed="b"))
    boot.log.flip("tile/0/000")
    boot.show(boot.log)
    assert monitor(tmp_path / "data", state, "--interval", "9") == 10


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "1e9"])
def test_interval_out_of_bounds_is_refused(boot: Boot, state: Path, interval: str) -> None:
    assert monitor(boot.path, state, f"--interval={interval}") == 2
    assert not state.exists()
