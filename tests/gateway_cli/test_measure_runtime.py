"""`attested measure-runtime` and `attested engine`, as the units of the image call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.statement.model_lock import LockedEngine
from attestation.tdx.runtime import parse_runtime_events
from gateway.cli import main as cli
from gateway.cli.local.loop import LoopThread
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.standin import StandInEngine
from tests.notary.test_measured_model import LOCK
from tests.upstream.test_engine_start import CLOSED

ROOT_HASH = "ab" * 32
HARD = replace(LOCK, engine=LockedEngine(name="vllm", version="0.32.0", arguments=CLOSED))


class Image:
    """The files of an image that the command reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "runtime-log.json"
        self.config = folder / "gateway.toml"
        self.configure()
        package = folder / "package"
        package.mkdir()
        (package / "code.py").write_text("x = 1\n")
        (folder / "cmdline").write_text(
            f"ro attested.engine={ROOT_HASH} attested.model={ROOT_HASH}\n"
        )
        (folder / "model.lock").write_bytes(HARD.canonical)
        (folder / "gpu-policy").write_text("policy")

    def configure(self, provider: str = "simulated:", **lines: str) -> None:
        told = {
            "upstream.uds": f'"{self.folder}/engine.sock"',
            "model.lock": f'"{self.folder}/model.lock"',
            "access.keys_file": '"keys.json"',
            "notary.data_dir": '"data"',
            "evidence.provider": f'"{provider}"',
            "evidence.runtime_log": '"runtime-log.json"',
        }
        self.config.write_text(
            "".join(f"{name} = {value}\n" for name, value in (told | lines).items() if value)
        )

    def run(self, step: str, *arguments: str) -> int:
        return cli.main(["measure-runtime", step, "--config", str(self.config), *arguments])

    def boot(self, *arguments: str) -> int:
        return self.run(
            "boot",
            *("--package", str(self.folder / "package")),
            *("--command-line", str(self.folder / "cmdline")),
            *arguments,
        )

    @property
    def names(self) -> list[str]:
        return [event.name for event in parse_runtime_events(json.loads(self.log.read_bytes()))]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as loop:
        yield loop


ALL = [
    "gateway.config", "gateway.package", "engine", "model.lock", "engine.args", "model.root",
    "gpu.policy", "gpu.evidence", "ready",
]  # fmt: skip


def test_steps_of_the_image_measure_everything_in_order(
    image: Image, loop: LoopThread, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = image.folder / "documents"
    documents = ("--documents", str(kept))
    assert image.boot("--gpu-policy", str(image.folder / "gpu-policy"), *documents) == 0
    evidence = image.folder / "gpu.json"
    evidence.write_text("{}")
    assert image.run("gpu", "--evidence", str(evidence)) == 0
    engine = StandInEngine()
    loop.call(engine.start(uds=f"{image.folder}/engine.sock"))
    assert image.run("ready", *documents) == 0
    loop.call(engine.close())
    assert image.names == ALL
    shown = capsys.readouterr().out.splitlines()[::2]
    assert [line.partition("=")[0] for line in shown] == ALL
    events = {e["event"]: e["sha256"] for e in json.loads(image.log.read_bytes())}
    for path in kept.iterdir():
        assert events[path.stem] == Digest.of(path.read_bytes()).hex
        assert path.stat().st_mode & 0o777 == 0o600
    assert {path.stem for path in kept.iterdir()} == {
        *("gateway.config", "gateway.package", "engine", "model.lock", "ready")
    }
    assert events["model.root"] == ROOT_HASH


def test_dry_run_says_the_same_and_measures_nothing(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image.boot("--dry-run", "--json") == 0
    predicted = json.loads(capsys.readouterr().out)
    assert predicted["extended"] is None
    assert not image.log.exists()
    assert image.boot("--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["extended"] is True
    assert done["events"] == predicted["events"]
    assert image.run("show", "--json") == 0
    assert json.loads(capsys.readouterr().out)["events"] == predicted["events"]


def test_platform_without_rtmr3_is_told_and_the_events_are_noted(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    image.configure(provider="simulated:?rtmr3=off")
    assert image.boot() == 0
    assert "cannot be extended here" in capsys.readouterr().out
    assert image.names[0] == "gateway.config"


def test_image_without_model_and_packs_measures_settings_and_package(image: Image) -> None:
    image.configure(**{"model.lock": ""})
    (image.folder / "cmdline").write_text("ro\n")
    assert image.boot() == 0
    assert image.names == ["gateway.config", "gateway.package"]


def test_second_boot_step_is_refused(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    assert image.boot() == 0
    before = image.log.read_bytes()
    assert image.boot() == 14
    assert "cannot be measured here" in capsys.readouterr().err
    assert image.log.read_bytes() == before


@pytest.mark.parametrize("change", ["environment", "flag"])
def test_settings_are_measured_with_environment_and_flags(
    image: Image, change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image.boot("--dry-run") == 0
    plain = capsys.readouterr().out.splitlines()
    if change == "environment":
        monkeypatch.setenv("ATTESTED_NAME", "other.name")
        assert image.boot("--dry-run") == 0
    else:
        assert image.boot("--dry-run", "--set", "name=other.name") == 0
    changed = capsys.readouterr().out.splitlines()
    assert plain[0] != changed[0]
    assert plain[2:] == changed[2:]


def test_lock_that_opens_the_engine_measures_nothing(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    (image.folder / "model.lock").write_bytes(LOCK.canonical)
    assert image.boot() == 11
    assert "more open than it has to be" in capsys.readouterr().err
    assert not image.log.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["boot"], "where is the gateway installed"),
        (["gpu"], "which evidence"),
        (["gpu", "--evidence", "nowhere"], "nowhere"),
        (["boot", "--package", "nowhere", "--command-line", "/dev/null"], "cannot be measured"),
    ],
)
def test_step_without_what_it_measures_is_refused(
    image: Image, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image.run(*arguments) != 0
    assert words in capsys.readouterr().err
    assert not image.log.exists()


def test_settings_without_a_log_are_refused(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    image.configure(**{"evidence.runtime_log": ""})
    assert image.boot() == 2
    assert "evidence.runtime_log" in capsys.readouterr().err


def test_lock_without_an_engine_is_refused(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    (image.folder / "model.lock").write_bytes(replace(LOCK, engine=None).canonical)
    assert image.boot() == 2
    assert "names no engine" in capsys.readouterr().err
    assert cli.main(["engine", "--lock", str(image.folder / "model.lock")]) == 2


def test_open_engine_is_never_ready(
    image: Image, loop: LoopThread, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Script(status=405, content_type=JSON, close=Close.LENGTH, writes=(b"{}",))
    engine = ScriptedEngine(script)
    loop.call(engine.start(uds=f"{image.folder}/engine.sock"))
    assert image.boot() == 0
    assert image.run("ready") == 14
    loop.call(engine.close())
    assert "can be changed or stopped" in capsys.readouterr().err
    assert "ready" not in image.names


def test_engine_that_does_not_come_is_never_ready(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    image.configure(**{"selfcheck.patience_seconds": "0.01"})
    assert image.run("ready") == 14
    told = capsys.readouterr().err
    assert "waits up to 0.01 s (selfcheck.patience_seconds) for " in told
    assert "engine.sock" in told
    assert "does not answer" in told
    assert not image.log.exists()


def test_what_is_shown_is_what_a_prediction_takes(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image.boot("--dry-run", "--json") == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert image.boot("--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == [f"{one['event']}={one['sha256']}" for one in events]
    assert lines[1::2] == [f"  extends by SHA-384 {one['digest']}" for one in events]


def test_empty_file_is_no_evidence_and_no_policy(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = image.folder / "empty"
    empty.touch()
    assert image.run("gpu", "--evidence", str(empty), "--dry-run") == 13
    assert image.boot("--gpu-policy", str(empty)) == 13
    told = capsys.readouterr().err
    assert told.count("is empty") == 2
    assert not image.log.exists()


def test_help_says_how_long_ready_waits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure-runtime", "--help"]) == 0
    assert "1800 s" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_runtime_log_that_is_none_is_told_with_what_was_seen(
    image: Image, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image.log.write_text(content)
    assert image.run("show") == 14
    told = capsys.readouterr().err
    assert "cannot be used" in told
    assert "seen     " in told


def test_lock_that_is_none_is_named(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    (image.folder / "model.lock").write_text("")
    assert cli.main(["engine", "--lock", str(image.folder / "model.lock"), "--dry-run"]) == 13
    assert "model.lock" in capsys.readouterr().err.splitlines()[0]


def test_ready_is_predicted_without_an_engine(
    image: Image, loop: LoopThread, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image.run("ready", "--dry-run") == 0
    predicted = capsys.readouterr().out
    engine = StandInEngine()
    loop.call(engine.start(uds=f"{image.folder}/engine.sock"))
    assert image.run("ready") == 0
    loop.call(engine.close())
    assert capsys.readouterr().out == predicted


def test_documents_that_cannot_be_kept_are_told(
    image: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    (image.folder / "file").write_text("")
    assert image.boot("--documents", str(image.folder / "file" / "below")) == 14
    assert "cannot be made" in capsys.readouterr().err


# -- the engine -------------------------------------------------------------------------------


def test_engine_gets_the_locks_arguments_and_a_closed_environment(image: Image) -> None:
    program = image.folder / "vllm"
    program.write_text(
        f"#!{sys.executable} -IS\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    )
    program.chmod(0o755)
    lock = str(image.folder / "model.lock")
    variables = {**os.environ, "LD_LIBRARY_PATH": "/nowhere", "VLLM_SERVER_DEV_MODE": "1"}
    command = [sys.executable, "-m", "gateway.cli.main", "engine", "--lock", lock]
    command += ["--executable", str(program)]
    done = subprocess.run(command, env=variables, capture_output=True, check=True, text=True)
    arguments, environment = json.loads(done.stdout)
    assert tuple(arguments) == CLOSED
    shown = subprocess.run([*command, "--dry-run"], capture_output=True, check=True, text=True)
    told: dict[str, Any] = json.loads(shown.stdout)
    assert told["command"] == [str(program), *CLOSED]
    # The C library's own locale coercion aside, nothing came along.
    assert {k: v for k, v in environment.items() if k != "LC_CTYPE"} == told["environment"]


def test_engine_that_is_not_there_is_told(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    lock = str(image.folder / "model.lock")
    missing = str(image.folder / "missing")
    assert cli.main(["engine", "--lock", lock, "--executable", missing]) == 14
    assert "cannot be started" in capsys.readouterr().err


def test_open_lock_starts_no_engine(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    (image.folder / "model.lock").write_bytes(LOCK.canonical)
    assert cli.main(["engine", "--lock", str(image.folder / "model.lock")]) == 11
    assert "more open" in capsys.readouterr().err
