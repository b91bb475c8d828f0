"""`attested keys`, `config` and the command table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attestation.cli.main import load_command as plain_load
from attestation.errors import UsageError
from gateway.cli import main as cli
from gateway.cli.keys import parse_time
from gateway.settings import Settings
from gateway.settings.fields import is_measured
from gateway.settings.tree import declared

FILE = """
name = "gw.test"
[upstream]
url = "http://127.0.0.1:8000"
[access]
keys_file = "keys.json"
[notary]
data_dir = "data"
[evidence]
provider = "simulated:"
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def keys(tmp_path: Path) -> str:
    return str(tmp_path / "keys.json")


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_key_is_shown_once_alone_on_stdout(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "add", "--keys-file", keys, "--label", "agent"]) == 0
    captured = capsys.readouterr()
    key = captured.out.strip()
    assert key.startswith("ag-")
    assert key not in captured.err
    for arguments in (["list"], ["list", "--json"]):
        assert cli.main(["keys", *arguments, "--keys-file", keys]) == 0
        captured = capsys.readouterr()
        assert "agent" in captured.out
        assert key not in captured.out + captured.err


def test_grant_is_what_the_flags_say(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--models", "a", "b", "--routes", "/v1/responses", "--concurrency", "3"]
    assert (
        cli.main(
            ["keys", "add", "--keys-file", keys, *arguments, "--expires", "2100-01-01", "--json"]
        )
        == 0
    )
    shown = json.loads(out(capsys))
    assert shown["grant"] == {
        "concurrency": 3,
        "expires": 4102444800,
        "models": ["a", "b"],
        "routes": ["/v1/responses"],
    }


def test_revoked_key_is_listed_as_such(keys: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["keys", "add", "--keys-file", keys, "--label", "agent"])
    assert cli.main(["keys", "revoke", "--keys-file", keys, "agent"]) == 0
    out(capsys)
    cli.main(["keys", "list", "--keys-file", keys, "--json"])
    (record,) = json.loads(out(capsys))["keys"]
    assert record["state"] == "revoked"


def test_keys_file_comes_from_settings_too(config: str, keys: str) -> None:
    assert cli.main(["keys", "add", "--config", config]) == 0
    assert Path(keys).exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["keys", "revoke", "--keys-file", "{keys}", "nobody"], 14, "cannot be read"),
        (["keys", "list", "--keys-file", "{keys}"], 14, "attested keys add"),
        (["keys", "add", "--keys-file", "{keys}", "--expires", "1999-01-01"], 2, "expired"),
        (["keys", "add", "--keys-file", "{keys}", "--expires", "soon"], 2, "2027-01-31"),
        (["keys", "add", "--keys-file", "{keys}", "--concurrency", "0"], 2, "concurrency"),
        (["keys", "add", "--keys-file", "{keys}", "--models", "a,b"], 2, "separated by spaces"),
        (
            ["keys", "add", "--keys-file", "{keys}", "--requests-per-minute", "0"],
            2,
            "made: requests_per_minute is out of bounds\n  expected an integer from 1 to 100000\n",
        ),
        (["keys", "add", "--keys-file", "{keys}", "--expires", "soon"], 2, "seen     'soon'"),
        (["keys", "add", "--keys-file", "{folder}"], 14, "name a file that you may read"),
        (["conformance", "jwt", "{folder}"], 13, "manifest.json, and every file that it lists"),
        (["config", "check", "--config", "{broken}"], 2, "hint     mend it there"),
        (
            ["config", "check", "--config", "{config}", "--set", "evidence.provider=simulated"],
            2,
            "no quote provider",
        ),
        (["keys", "add"], 2, "required"),
        (["keys", "--keys-file", "{keys}"], 2, "usage"),
        (["config", "check"], 2, "upstream"),
        (["config", "check", "--config", "{config}", "--set", "x"], 2, "NAME=VALUE"),
        (
            ["config", "check", "--config", "{config}", "--set", "name=a", "--set", "name=b"],
            2,
            "twice",
        ),
        (["config", "check", "--config", "{config}", "--set", "listen.prot=1"], 2, "listen.port"),
        (["serve", "--config", "nowhere.toml"], 2, "cannot be read"),
        (["serv"], 2, "did you mean"),
    ],
)
def test_mistake_is_one_message_with_a_hint(
    arguments: list[str],
    code: int,
    text: str,
    config: str,
    keys: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(keys).parent / "folder"
    folder.mkdir()
    broken = folder.with_name("broken.toml")
    broken.write_text("x = [")
    places = {"config": config, "keys": keys, "folder": folder, "broken": broken}
    filled = [argument.format(**places) for argument in arguments]
    assert cli.main(filled) == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_config_shows_values_with_origin_and_mark(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", config, "--set", "limits.max_n=4"]
    assert cli.main(["config", "show", "--origin", *arguments]) == 0
    lines = out(capsys).splitlines()
    (line,) = [line for line in lines if "limits.max_n" in line]
    assert line.split() == ["*", "limits.max_n", "=", "4", "#", "--set", "limits.max_n"]
    (line,) = [line for line in lines if "listen.port" in line]
    assert line.split() == ["listen.port", "=", "8443", "#", "default"]
    assert cli.main(["config", "check", "--json", *arguments]) == 0
    document = json.loads(out(capsys))
    assert document["config_digest"] in lines[-1]


def test_example_settings_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "gateway.toml"
    assert cli.main(["config", "check", "--config", str(example)]) == 0
    assert "accepted" in out(capsys)


def test_operating_manual_lists_every_setting_with_its_mark_and_meaning() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    rows = {line.split("`")[1]: line for line in manual.splitlines() if line.startswith("| `")}
    for path, field in declared(Settings):
        mark = "yes" if is_measured(field) else "no"
        assert rows[path].endswith(f"| {mark} | {field.description} |")


@pytest.mark.parametrize("command", ["serve", "keys", "config"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"attested {command}" in out(capsys)


def test_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("gateway.cli.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert cli.main(["serve"]) == 2
    assert "pip install 'attested-gateway[server]'" in capsys.readouterr().err


@pytest.mark.parametrize("topic", ["requests", "sse"])
def test_a_conformance_topic_that_needs_an_extra_names_it(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("gateway.conformance.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("gateway.cli.local")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert cli.main(["conformance", topic, str(tmp_path)]) == 2
    seen = capsys.readouterr().err
    assert "pip install 'attested-gateway[server]'" in seen
    assert "Traceback" not in seen


def test_a_label_that_another_key_has_is_warned_about(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["keys", "add", "--keys-file", keys, "--label", "agent"]
    cli.main(add)
    assert "warning" not in capsys.readouterr().err
    cli.main(add)
    assert "another key has the label 'agent'" in capsys.readouterr().err
    cli.main(add)
    assert "2 other keys have the label 'agent'" in capsys.readouterr().err
    cli.main(["keys", "add", "--keys-file", keys, "--label", "other"])
    assert "warning" not in capsys.readouterr().err


def test_the_label_of_a_revoked_key_is_free_again(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["keys", "add", "--keys-file", keys, "--label", "agent"]
    cli.main(add)
    cli.main(["keys", "revoke", "--keys-file", keys, "agent"])
    cli.main(add)
    assert "warning" not in capsys.readouterr().err


def test_a_route_that_is_none_is_warned_about_and_the_key_is_made(
    keys: str, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["keys", "add", "--keys-file", keys, "--routes"]
    assert cli.main([*add, "/v1/chat/completions", "/v1/messages"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert cli.main([*add, "/v1/chat/completion"]) == 0
    seen = capsys.readouterr()
    assert "did you mean /v1/chat/completions?" in seen.err
    assert seen.out.startswith("ag-")
    assert cli.main([*add, "\x1b[31m"]) in {0, 2}
    assert "\x1b" not in capsys.readouterr().err


def test_missing_module_of_ours_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError):
        cli.load_command("gateway.cli.no_such_command")
    assert plain_load("gateway.cli.keys").HELP


def test_verifier_commands_run_without_any_server_library() -> None:
    program = (
        "import sys\n"
        "for name in ('fastapi','pydantic','uvicorn','uvloop','structlog','httptools','httpx2',"
        "'prometheus_client','pydantic_settings','starlette'):\n"
        "    sys.modules[name] = None\n"
        "from gateway.cli.main import main\n"
        "raise SystemExit(main(['version']) or main(['--help']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("1970-01-02", 86400),
        ("1970-01-01T01:00:00Z", 3600),
        ("1970-01-01T01:00+01:00", 0),
    ],
)
def test_times_are_unix_seconds_or_rfc_3339(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "²", "yesterday", "2027-13-01"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)
