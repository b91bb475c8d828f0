"""The demo as a user runs it: a command in a process of its own."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from attestation.cli.main import main
from attestation.errors import UnavailableError
from gateway.attester.base import open_provider
from gateway.attester.simulated.provider import RealDevices
from gateway.cli import demo
from gateway.cli.local.loop import LoopThread
from gateway.demo.folder import MARK
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.standin import DEFAULT_MODEL

ATTESTED = [sys.executable, "-m", "gateway.cli.main"]


def attested(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ATTESTED, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run of the demo: its folder and its JSON document."""
    folder = tmp_path_factory.mktemp("demo") / "left"
    done = attested("demo", "--out", str(folder), "--json", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_the_untouched_bundle_is_simulated_and_every_changed_byte_is_refused(
    told: tuple[Path, dict[str, Any]],
) -> None:
    _, document = told
    assert document["went_as_told"] is True
    assert document["audit"]["exit_code"] == 15
    assert document["unanchored"] == {}
    assert [one["exit_code"] for one in document["tampered"]] == [10, 10, 10, 10, 10]
    failing = [one["failing"][0].split(":")[0] for one in document["tampered"]]
    assert failing == [
        "RESPONSE-BODY",
        "RECEIPT-SIGNATURE",
        "LOG-INCLUSION",
        "QUOTE-GENUINE",
        "QUOTE-GENUINE",
    ]


def test_the_demo_says_what_it_does_not_prove(told: tuple[Path, dict[str, Any]]) -> None:
    _, document = told
    assert any(note.startswith("hardware:") for note in document["not_proved"])
    assert not any("not anchored" in note for note in document["not_proved"])


def test_the_folder_holds_everything_and_nothing_private_is_open(
    told: tuple[Path, dict[str, Any]],
) -> None:
    folder, document = told
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    bodies = {f"bodies/{jti}.{kind}" for jti in document["receipts"] for kind in _KINDS}
    tampered = {f"tampered/{name}" for name in _TAMPERED}
    assert files == bodies | tampered | LEFT
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*") if path.is_file())


def test_the_command_that_is_printed_verifies_the_bundle_long_after(
    told: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, document = told
    program, *arguments = shlex.split(document["again"])
    assert (program, arguments[0], arguments[-2]) == ("attested", "verify", "--at")
    in_two_years = time.time() + 730 * 86_400
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: in_two_years)
    assert main(arguments) == 15
    told_now = capsys.readouterr().out
    assert "SIMULATED (exit 15)" in told_now
    assert "no content bound" not in told_now
    assert main(arguments[:-2]) == 11


def test_the_command_names_the_program_that_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "bin" / "attested"
    there.parent.mkdir()
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    for path, called, name in (
        ("/nowhere", str(there), str(there)),
        ("/nowhere", ".venv/bin/attested", ".venv/bin/attested"),
        (str(there.parent), str(there), "attested"),
        (str(there.parent), "/somewhere/main.py", "attested"),
    ):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr(sys, "argv", [called, "demo"])
        assert demo._program() == name


LEFT = {"bundle.json", "policy.toml", "policy-cases.toml", "root.pem", "README.txt"}
_KINDS = ("request", "response", "nonce")
_TAMPERED = ("answer", "receipt.json", "proof.json", "epoch-quote.json", "quote.json")


def test_every_command_of_the_readme_ends_as_the_readme_says(
    told: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = told
    text = (folder / "README.txt").read_text().replace("\\\n", " ")
    assert text.startswith(MARK)
    lines = text.splitlines()
    commands = [at for at, line in enumerate(lines) if line.startswith("  attested ")]
    assert len(commands) == 7
    for at in commands:
        expected = int(lines[at + 1].split()[1].rstrip(":"))
        _, *arguments = shlex.split(lines[at])
        assert attested(*arguments, cwd=folder).returncode == expected


def test_the_case_file_holds_at_any_later_time_and_names_each_changed_byte(
    told: tuple[Path, dict[str, Any]],
) -> None:
    folder, document = told
    done = attested(
        "policy", "test", str(folder / "policy-cases.toml"), "--json", cwd=folder.parent
    )
    assert done.returncode == 0, done.stdout
    cases = json.loads(done.stdout)["cases"]
    changes = [one["change"] for one in document["tampered"]]
    assert [one["name"] for one in cases] == ["the untouched bundle", *changes]
    assert [one["got"] for one in cases] == ["SIMULATED", *["REJECTED"] * 5]


def test_a_second_run_replaces_what_the_first_left_and_nothing_else(
    told: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = told
    mine = folder / "mine.txt"
    mine.write_text("kept")
    before = (folder / "bundle.json").read_bytes()
    assert attested("demo", "--out", str(folder), cwd=tmp_path).returncode == 0
    assert (folder / "bundle.json").read_bytes() != before
    assert mine.read_text() == "kept"
    mine.unlink()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    done = attested("demo", "--out", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_the_text_names_every_step(tmp_path: Path) -> None:
    done = attested("demo", cwd=tmp_path)
    assert done.returncode == 0
    for shown in ("exit 15 SIMULATED", "exit 10 REJECTED", "Not proved by any of this", "README"):
        assert shown in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  attested verify "))
    words = shlex.split(line)
    assert words[2] == "attested-demo/bundle.json"
    assert attested(*words[1:], cwd=tmp_path).returncode == 15


def test_a_demo_that_failed_is_in_nobodys_way(tmp_path: Path) -> None:
    with LoopThread() as loop:
        engine = ScriptedEngine(Script(status=404, writes=(b"{}",), content_type=JSON))
        address = loop.call(engine.start())
        failed = attested("demo", "--upstream", address, "--model", "none", cwd=tmp_path)
        loop.call(engine.close())
    assert failed.returncode == 14
    assert "status 404" in failed.stderr
    assert (tmp_path / "attested-demo" / "README.txt").read_text().startswith(MARK)
    assert attested("demo", cwd=tmp_path).returncode == 0


def test_an_engine_that_is_away_leaves_no_folder(tmp_path: Path) -> None:
    done = attested("demo", "--upstream", f"unix:{tmp_path}/nowhere.sock", cwd=tmp_path)
    assert done.returncode == 14
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = attested("demo", "--out", "file/left", cwd=tmp_path)
    assert done.returncode == 2
    assert "Not a directory" in done.stderr


@pytest.mark.parametrize("where", [("--uds", "nowhere/engine.sock"), ("--port", "65536")])
def test_an_engine_that_cannot_listen_says_where(where: tuple[str, str], tmp_path: Path) -> None:
    done = attested("demo-engine", *where, cwd=tmp_path)
    assert done.returncode == 2
    assert where[1] in done.stderr


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(writes=(b"{}",), close=Close.LENGTH, content_type=JSON), "list its models"),
        (Script(close=Close.DROP), "list its models"),
    ],
)
def test_an_upstream_that_is_no_engine_is_named(script: Script, words: str, tmp_path: Path) -> None:
    with LoopThread() as loop:
        engine = ScriptedEngine(script)
        address = loop.call(engine.start())
        done = attested("demo", "--upstream", address, cwd=tmp_path)
        loop.call(engine.close())
    assert done.returncode == 14
    assert words in done.stderr


def test_an_upstream_of_the_users_own_is_used(tmp_path: Path) -> None:
    socket = tmp_path / "engine.sock"
    engine = subprocess.Popen(
        [*ATTESTED, "demo-engine", "--uds", str(socket), "--model", "mine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert engine.stdout is not None
    try:
        address = engine.stdout.readline().strip()
        assert address == f"unix:{socket}"
        done = attested("demo", "--upstream", address, "--json", cwd=tmp_path)
        assert done.returncode == 0
        folder = tmp_path / json.loads(done.stdout)["folder"]
        bodies = [path.read_bytes() for path in (folder / "bodies").glob("*.request")]
        assert all(b'"mine"' in body for body in bodies)
    finally:
        engine.send_signal(signal.SIGTERM)
        assert engine.wait(60) == 0
        engine.stdout.close()


def test_a_kept_gateway_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*ATTESTED, "demo", "--keep"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        url = next(line.split()[4] for line in lines if "stays at" in line)
        command = "".join(line for line in (next(lines), next(lines), next(lines), next(lines)))
        body = shlex.split(command.replace("\\\n", " "))[-1]
        assert json.loads(body)["model"] == DEFAULT_MODEL
        with httpx2.Client(verify=False) as client:
            assert client.get(f"{url}/healthz").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        process.stderr.close()


def test_the_demo_engine_listens_on_a_free_port_and_stops_on_a_signal() -> None:
    engine = subprocess.Popen(
        [*ATTESTED, "demo-engine"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert engine.stdout is not None
    address = engine.stdout.readline().strip()
    with httpx2.Client() as client:
        assert client.get(f"{address}/health").status_code == 200
    engine.send_signal(signal.SIGINT)
    assert engine.wait(60) == 0
    engine.stdout.close()


def test_without_the_openai_package_the_demo_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UnavailableError, match=r"attested-gateway\[demo\]"):
        demo._require_openai()


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.configure(parser)
    return parser.parse_args(given)


@pytest.fixture
def in_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RealDevices, "found", lambda _self: "/dev/tdx_guest")


@pytest.mark.usefixtures("in_a_guest")
def test_in_a_tdx_guest_the_demo_uses_its_quotes_and_leaves_rtmr3_alone() -> None:
    provider = demo._provider(arguments("--collateral", "collateral.json"))
    assert provider == "configfs-tsm:?rtmr3=off"


@pytest.mark.usefixtures("in_a_guest")
@pytest.mark.parametrize("given", [(), ("--provider", "vsock-qgs:")])
def test_in_a_tdx_guest_the_demo_asks_for_the_platforms_endorsements(
    given: tuple[str, ...],
) -> None:
    with pytest.raises(UnavailableError, match="--collateral") as caught:
        demo._provider(arguments(*given))
    assert "/dev/tdx_guest" in caught.value.observed


@pytest.mark.usefixtures("in_a_guest")
def test_in_a_tdx_guest_nobody_gets_a_simulated_demo_by_asking_for_it() -> None:
    with pytest.raises(UnavailableError) as caught:
        open_provider(demo._provider(arguments("--provider", "simulated:")))
    assert caught.value.code == "real_device"


def test_elsewhere_the_demo_is_simulated() -> None:
    assert demo._provider(arguments()) == "simulated:"
