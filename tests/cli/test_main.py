"""What all commands share: the overview, refusals, exit codes and, once, a process."""

from __future__ import annotations

import errno
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attestation.checks import CHECKS
from attestation.cli.main import COMMANDS, main
from attestation.errors import MalformedError, UnavailableError
from tests.cli.support import Folder, printed


def test_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        output = capsys.readouterr().out
        assert all(f"  {name} " in output for name in COMMANDS)
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"attested {command}" in capsys.readouterr().out


def test_help_of_verify_lists_checks_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", "--help"])
    output = capsys.readouterr().out
    assert all(id_ in output for id_ in CHECKS)
    assert all(f"\n  {code} " in output for code in (0, 10, 11, 12, 13, 15))


@pytest.mark.parametrize("argv", [["version"], ["--version"]])
def test_version_names_what_verdicts_rest_on(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    output = capsys.readouterr().out
    assert "dcap-qvl" in output
    assert "attested-gateway/bundle/v1" in output


def test_version_prints_json_and_admits_what_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attestation.cli.version._PARTS", ("cryptography", "no-such-part"))
    assert main(["version", "--json"]) == 0
    assert printed(capsys)["versions"]["no-such-part"] == "not installed"


def test_unknown_command_is_a_usage_error_with_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verfiy"]) == 2
    assert "did you mean `attested verify`" in capsys.readouterr().err
    assert main(["xyzzy\x1b"]) == 2
    assert "\x1b" not in capsys.readouterr().err


class Fake:
    """A command that does what the test says."""

    HELP = "fake"

    def __init__(self, outcome: BaseException | int) -> None:
        self.outcome = outcome

    def configure(self, parser: Any) -> None:
        parser.add_argument("rest", nargs="*")

    def run(self, _: Any) -> int:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def run_fake(outcome: BaseException | int) -> int:
    return main(["fake"], {"fake": "nowhere"}, lambda _: Fake(outcome))


def test_refusal_prints_message_expected_seen_and_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = MalformedError("it is wrong", expected="a", observed="b", hint="do c")
    assert run_fake(error) == 13
    assert capsys.readouterr().err == (
        "attested: it is wrong\n  expected a\n  seen     b\n  hint     do c\n"
    )
    assert run_fake(UnavailableError("not there\x1b[2J")) == 14
    assert capsys.readouterr().err == "attested: not there\\x1b[2J\n"


def test_internal_error_shows_its_type_and_no_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATTESTED_DEBUG", raising=False)
    assert run_fake(RuntimeError("secret prompt")) == 1
    error = capsys.readouterr().err
    assert "RuntimeError" in error
    assert "secret prompt" not in error
    monkeypatch.setenv("ATTESTED_DEBUG", "1")
    assert run_fake(RuntimeError("secret prompt")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_and_odd_exits_have_codes() -> None:
    assert run_fake(KeyboardInterrupt()) == 130
    assert run_fake(7) == 7


def test_command_that_cannot_be_loaded_still_shows_in_the_overview(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(path: str) -> Any:
        raise ImportError(path)

    assert main(["--help"], {"serve": "x"}, load) == 0
    assert "needs an extra" in capsys.readouterr().out


def test_stop_without_a_number_is_a_usage_error() -> None:
    class Stopping(Fake):
        def configure(self, parser: Any) -> None:
            parser.error = sys.exit
            parser.add_argument("--needed", required=True)

    assert main(["fake"], {"fake": "x"}, lambda _: Stopping(0)) == 2


def test_command_line_works_as_a_process_and_survives_a_closed_pipe(folder: Folder) -> None:
    command = [sys.executable, "-m", "attestation.cli.main"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = ["verify", folder["bundle.json"], *folder.grounds]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False, env=environment)
    assert done.returncode == 15
    assert b"Traceback" not in done.stderr
    read, write = os.pipe()
    os.close(read)
    piped = subprocess.run(
        [*command, *arguments], stdout=write, stderr=subprocess.PIPE, check=False, env=environment
    )
    os.close(write)
    assert piped.returncode == 1
    assert piped.stderr == b""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_module_can_be_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["attested", "version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("attestation.cli.main", run_name="__main__")
    assert stop.value.code == 0
    assert "attested-gateway" in capsys.readouterr().out


def test_closed_pipe_ends_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_fake(BrokenPipeError()) == 1
    assert capsys.readouterr().err == ""


def test_result_that_cannot_be_written_is_unavailable_and_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_fake(full) == 14
    told = capsys.readouterr().err
    assert "could not be written in full" in told
    assert "No space left on device" in told
    assert "Traceback" not in told


def test_where_it_could_not_be_written_is_shown_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATTESTED_DEBUG", "1")
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert run_fake(OSError()) == 14
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "an I/O error" in told


def test_closed_stdout_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["version"]) == 2
    assert "stdout is closed" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_behind_stdout_is_told_by_the_real_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "attestation.cli.main", "explain"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=environment,
        )
    assert told.returncode == 14
    assert "internal error" not in told.stderr
