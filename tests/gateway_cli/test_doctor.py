"""`attested doctor`: the service and the clock as an operator sees them; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.cli import main as program
from gateway.cli.checkup.clock import Instant, KnownTime, clock_findings, kernel_state
from gateway.cli.checkup.finding import Level, Subject
from gateway.cli.doctor import report
from tests.gateway_cli.doctors import NOW, UNAVAILABLE, USAGE, config, doctor, levels
from tests.support.gateways import closed_port


def test_gateway_that_could_start_is_missing_nothing(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(*config(tmp_path, engine), capsys=capsys)
    assert code == 0
    assert levels(found, "evidence.signatures", "evidence.rtmr3") == ["ok"] * 2
    assert levels(found, "evidence.endorsements") == ["ok"]
    # How fast and how full this machine is belongs to the machine.
    own = levels(found, "evidence.quote", "service.data_dir", "service.fsync")
    assert set(own) <= {"ok", "warn"}
    assert levels(found, "service.keys", "service.tls", "service.engine") == ["ok"] * 3
    assert found["evidence.provider"]["level"] == "warn"
    assert "SIMULATED" in found["evidence.provider"]["seen"]
    assert found["evidence.quote_form"]["data"]["fmspc"] == "fffefd000000"
    parts = {part["name"] for part in found["evidence.endorsements"]["data"]["parts"]}
    assert {"TCB info", "QE identity", "PCK CRL", "root CRL"} <= parts


def test_nothing_is_changed_by_looking(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    doctor(*arguments, capsys=capsys)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_report_for_people_shows_no_secret_and_ends_with_the_verdict(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["doctor", *config(tmp_path, engine)]) == 0
    text = capsys.readouterr().out
    assert text.rstrip().splitlines()[-1].startswith("nothing that is needed is missing")
    assert "secret-label" not in text
    keys = json.loads((tmp_path / "keys.json").read_bytes())["keys"]
    assert all(each["sub"] not in text for each in keys)
    assert all(len(line) <= 100 for line in text.splitlines() if str(tmp_path) not in line)


def test_machine_alone_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys=capsys)
    assert code == 0
    assert {name.partition(".")[0] for name in found} == {"machine", "clock"}
    assert program.main(["doctor"]) == 0
    assert "no settings were given" in capsys.readouterr().out


def test_provider_alone_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor("--provider", "simulated:", capsys=capsys)
    assert code == 0
    assert found["evidence.quote"]["data"]["seconds"] >= 0
    assert not any(name.startswith("service.") for name in found)


def test_provider_and_settings_together_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, "http://127.0.0.1:9")
    assert program.main(["doctor", "--provider", "simulated:", *arguments]) == USAGE
    assert "--set evidence.provider" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["nonsense:", "simulated", "simulated:?wrong=1", "dstack:here"])
def test_provider_that_nobody_could_use_ends_with_usage(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["doctor", "--provider", uri]) == USAGE
    assert capsys.readouterr().out == ""


def test_provider_without_settings_needs_no_endorsements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor("--provider", f"dstack:{tmp_path}/none.sock", capsys=capsys)
    assert code == UNAVAILABLE
    assert "evidence.endorsements" not in found


def test_settings_that_are_refused_end_with_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.toml").write_text("[upstream]\n")
    assert program.main(["doctor", "--config", str(tmp_path / "gateway.toml")]) == USAGE
    assert capsys.readouterr().out == ""


def test_provider_that_is_not_on_this_machine_is_a_failure_with_what_to_do(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine, provider=f"dstack:{tmp_path}/none.sock")
    code, found = doctor(*arguments, capsys=capsys)
    assert code == UNAVAILABLE
    assert levels(found, "machine.dstack", "evidence.provider") == ["fail", "fail"]
    assert "mount" in found["evidence.provider"]["todo"]
    assert program.main(["doctor", *arguments]) == UNAVAILABLE
    assert "not ready: dstack agent's socket, quote provider" in capsys.readouterr().out


def test_model_lock_that_cannot_be_read_is_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    _, found = doctor(*arguments, capsys=capsys)
    assert found["service.model"]["level"] == "absent"
    text = (tmp_path / "gateway.toml").read_text()
    changed = text.replace(f'url = "{engine}"', f'uds = "{tmp_path}/engine.sock"')
    (tmp_path / "gateway.toml").write_text(f'{changed}[model]\nlock = "{tmp_path}/none.lock"\n')
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["service.model"]["level"]) == (UNAVAILABLE, "fail")
    assert found["service.engine"]["level"] == "fail"


def test_every_one_of_several_engines_is_asked(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    path = tmp_path / "gateway.toml"
    tables = (
        f'[[upstreams]]\nname = "a"\nurl = "{engine}"\n'
        f'[[upstreams]]\nname = "b"\nurl = "{engine.replace("127.0.0.1", "localhost")}"\n'
        'models = ["nobody-has-it"]\n'
        f'[[upstreams]]\nname = "c"\nuds = "{tmp_path}/none.sock"\n'
    )
    path.write_text(path.read_text().replace(f'[upstream]\nurl = "{engine}"\n', tables))
    _, found = doctor(*arguments, capsys=capsys)
    names = ("service.engine.a", "service.engine.b", "service.engine.c")
    assert levels(found, *names) == ["ok", "warn", "fail"]
    assert "nobody-has-it" in json.dumps(found["service.engine.b"])


def test_engine_that_does_not_answer_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, f"http://127.0.0.1:{closed_port()}")
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["service.engine"]["level"]) == (UNAVAILABLE, "fail")


def test_folder_that_others_can_enter_is_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    (tmp_path / "data").chmod(0o755)
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["service.data_dir"]["level"]) == (UNAVAILABLE, "fail")
    assert "chmod 700" in found["service.data_dir"]["todo"]


def test_folder_that_is_not_there_yet_is_made_at_the_start_and_not_by_looking(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    (tmp_path / "data").rmdir()
    _, found = doctor(*arguments, capsys=capsys)
    assert found["service.data_dir"]["level"] == "ok"
    assert not (tmp_path / "data").exists()
    _, found = doctor(*arguments, "--set", "notary.data_dir=/no/such/folder", capsys=capsys)
    assert found["service.data_dir"]["level"] == "fail"


def test_file_in_place_of_the_folder_is_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    _, found = doctor(*arguments, "--set", f"notary.data_dir={tmp_path}/keys.json", capsys=capsys)
    assert "no folder" in found["service.data_dir"]["seen"]


def test_keys_file_without_a_key_in_use_is_a_warning_and_without_a_file_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine)
    _, found = doctor(*arguments, "--set", "access.keys_file=/no/such/keys", capsys=capsys)
    assert found["service.keys"]["level"] == "fail"
    past = tmp_path / "past.json"
    add_key(past, label="past", grant=Grant(expires=NOW), now=NOW - 1)
    _, found = doctor(*arguments, "--set", f"access.keys_file={past}", capsys=capsys)
    assert (found["service.keys"]["level"], found["service.keys"]["data"]) == (
        "warn",
        {"usable": 0},
    )


def test_plain_http_is_a_warning(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found = doctor(*config(tmp_path, engine), "--set", "tls.mode=off", capsys=capsys)
    assert found["service.tls"]["level"] == "warn"


def at(wall: float, steady: float) -> Instant:
    return Instant(wall=wall, steady=steady)


def clock(*, moved: float = 0.0, known: int | None = None, state: int | None = 0) -> list[Level]:
    times = () if known is None else (KnownTime(what="the newest record", at=known),)
    findings = clock_findings(at(NOW, 5.0), at(NOW + 2.0 + moved, 7.0), times, state)
    return [each.level for each in findings]


def test_clock_that_agrees_with_everything_is_well() -> None:
    assert clock(known=NOW - 5) == [Level.OK] * 3
    assert clock() == [Level.OK] * 3


def test_clock_before_something_that_was_made_is_a_warning() -> None:
    assert clock(known=NOW + 3600)[0] is Level.WARN
    assert clock(known=NOW + 30)[0] is Level.OK


@pytest.mark.parametrize("moved", [0.6, -0.6, 3600.0])
def test_clock_that_steps_meanwhile_is_a_warning(moved: float) -> None:
    assert clock(moved=moved)[1] is Level.WARN


def test_clock_that_nobody_keeps_right_is_a_warning() -> None:
    assert clock(state=5)[2] is Level.WARN
    assert clock(state=None)[2] is Level.ABSENT
    assert kernel_state() in (None, 0, 1, 2, 3, 4, 5)


def test_words_of_others_do_not_reach_the_terminal_as_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program.main(["doctor", "--provider", "dstack:/\x1b[2Jnone.sock"])
    out = capsys.readouterr().out
    assert "\\x1b[2Jnone.sock" in out
    assert "\x1b" not in out


def test_long_words_and_long_titles_stay_readable() -> None:
    subject = Subject(id="a.b", area="a", title="t" * 60)
    lines = list(report([subject.fail("x" * 200, "do this")]))
    assert lines[0] == "a"
    assert "t" * 60 + " " + "x" * 200 in lines[1]
    assert lines[-1].startswith("not ready: ttt")
