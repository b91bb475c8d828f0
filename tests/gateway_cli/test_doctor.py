"""`attested doctor`: evidence, service and clock as an operator sees them; it changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.quote import parse_quote
from gateway.access.keyfile import add_key
from gateway.access.principal import Grant
from gateway.attester.base import open_provider
from gateway.attester.simulated.facts import Domain, Endorsements, Machine, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli import main as program
from gateway.cli.checkup import evidence as evidence_module
from gateway.cli.checkup.clock import Instant, KnownTime, clock_findings, kernel_state
from gateway.cli.checkup.endorsed import (
    choose_endorsements,
    load_configured,
    look_at_endorsements,
    look_at_tcb,
)
from gateway.cli.checkup.evidence import Wanted, look_at_evidence
from gateway.cli.checkup.finding import Finding, Level, Subject
from gateway.cli.doctor import report
from gateway.cli.local.loop import LoopThread
from gateway.engine.standin import StandInEngine
from tests.support.dstack import DstackAgent, Guest, dstack_guest
from tests.support.gateways import closed_port

UNAVAILABLE, USAGE = 14, 2
NOW = 1_763_668_800


@pytest.fixture
def engine() -> Iterator[str]:
    with LoopThread() as loop:
        standin = StandInEngine()
        yield loop.call(standin.start())
        loop.call(standin.close())


def config(folder: Path, url: str, **evidence: str) -> list[str]:
    """Settings of a gateway that could start, with one key; the arguments that name them."""
    keys = folder / "keys.json"
    if not keys.exists():
        add_key(keys, label="secret-label", grant=Grant(), now=NOW)
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    lines = "".join(
        f"{name} = {json.dumps(value)}\n"
        for name, value in ({"provider": "simulated:"} | evidence).items()
    )
    path = folder / "gateway.toml"
    path.write_text(
        f'[upstream]\nurl = "{url}"\n[access]\nkeys_file = "{keys}"\n'
        f'[notary]\ndata_dir = "{folder}/data"\n[evidence]\n{lines}'
    )
    return ["--config", str(path)]


def doctor(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = program.main(["doctor", "--json", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert document["exit"] == code
    return code, {each["id"]: each for each in document["findings"]}


def levels(found: dict[str, Any], *names: str) -> list[str]:
    return [found[name]["level"] for name in names]


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


@pytest.mark.parametrize(
    ("options", "name"), [("failure_rate=1&faults=all", "quote"), ("rtmr3=off", "rtmr3")]
)
def test_fault_of_the_platform_is_seen_where_it_is(
    tmp_path: Path, engine: str, options: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine, provider=f"simulated:?{options}")
    code, found = doctor(*arguments, capsys=capsys)
    finding = found[f"evidence.{name}"]
    assert finding["level"] == ("fail" if name == "quote" else "warn")
    assert finding["todo"]
    assert code == (UNAVAILABLE if name == "quote" else 0)


def ticking(seconds: float) -> Any:
    times = iter([0.0, seconds])
    return lambda: next(times)


@pytest.mark.parametrize(
    ("seconds", "level", "said"),
    [
        (0.004, Level.OK, "4.0 ms"),
        (0.69, Level.OK, ""),
        (0.7, Level.WARN, "once a second"),
        (1.03, Level.WARN, "once a second"),
        (10.0, Level.WARN, "log.epoch_seconds"),
        (30.5, Level.FAIL, "evidence.quote_timeout"),
    ],
)
def test_time_of_a_quote_is_told_with_its_consequence(
    seconds: float, level: Level, said: str
) -> None:
    seen = look_at_evidence(Wanted(provider="simulated:"), ticking(seconds))
    (finding,) = [each for each in seen.findings if each.id == "evidence.quote"]
    assert finding.level is level
    assert said in finding.seen


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[DstackAgent]:
    guest = Guest(platform=SimulatedPlatform(now=int(time.time())))
    with dstack_guest(tmp_path / "dstack.sock", DstackAgent(guest)) as served:
        yield served


def on_dstack(folder: Path, options: str = "") -> dict[str, Finding]:
    wanted = Wanted(provider=f"dstack:{folder}/dstack.sock{options}")
    return {each.id: each for each in look_at_evidence(wanted, time.monotonic).findings}


def test_dstack_guest_is_looked_at_without_extending_anything(
    tmp_path: Path, agent: DstackAgent
) -> None:
    before = list(agent.guest.registers)
    found = on_dstack(tmp_path)
    assert found["evidence.provider"].level is Level.OK
    assert found["evidence.dstack"].data == {"version": "0.5.11"}
    assert found["evidence.rtmr3"].level is Level.OK
    assert "not up to Intel's root" in found["evidence.signatures"].seen
    assert agent.guest.registers == before
    assert sorted(method for method, _ in agent.calls) == ["GetQuote", "Version"]


@pytest.mark.parametrize("version", ["0.6.0", "0.10.2", "1.0"])
def test_dstack_that_extends_nothing_needs_other_settings(
    tmp_path: Path, agent: DstackAgent, version: str
) -> None:
    agent.version = version
    found = on_dstack(tmp_path)
    assert found["evidence.dstack"].level is Level.FAIL
    assert "rtmr3=off" in found["evidence.dstack"].todo
    found = on_dstack(tmp_path, "?rtmr3=off")
    assert found["evidence.dstack"].level is Level.OK
    assert found["evidence.rtmr3"].level is Level.WARN


def test_dstack_too_old_to_tell_its_version_is_taken(tmp_path: Path, agent: DstackAgent) -> None:
    agent.version = None
    assert on_dstack(tmp_path)["evidence.dstack"].level is Level.OK


def test_earlier_starts_in_this_domain_are_counted(tmp_path: Path, agent: DstackAgent) -> None:
    content = '{"bootseed":"%s","event":"receipt.key","keyset_digest":"%s","n":%d}'
    for n in (1, 2):
        agent.guest.emit("receipt.key", (content % ("00" * 32, "11" * 32, n)).encode())
    found = on_dstack(tmp_path)["evidence.rtmr3"]
    assert (found.level, found.data) == (Level.WARN, {"starts": 2})
    assert "number 3" in found.seen


def test_log_that_no_start_can_follow_is_a_failure(tmp_path: Path, agent: DstackAgent) -> None:
    agent.guest.emit("receipt.key", b"{}")
    assert on_dstack(tmp_path)["evidence.rtmr3"].level is Level.FAIL


def test_changed_quote_is_seen_as_such(tmp_path: Path, agent: DstackAgent) -> None:
    def patched(method: str, answer: Any) -> Any:
        if method != "GetQuote":
            return answer
        quote = bytearray.fromhex(answer["quote"])
        quote[200] ^= 1  # mrtd, which the attestation key has signed
        return answer | {"quote": quote.hex()}

    agent.change = patched
    found = on_dstack(tmp_path)
    assert found["evidence.signatures"].level is Level.FAIL
    assert "body_sig" in found["evidence.signatures"].seen


def test_quote_in_debug_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    platform = SimulatedPlatform(now=NOW, domain=Domain(td_attributes=1))
    provider = open_provider("simulated:")
    monkeypatch.setattr(provider, "_platform", platform)
    monkeypatch.setattr(evidence_module, "open_provider", lambda _: provider)
    seen = look_at_evidence(Wanted(provider="simulated:"), time.monotonic)
    (finding,) = [each for each in seen.findings if each.id == "evidence.quote_form"]
    assert finding.level is Level.WARN
    assert "DEBUG" in finding.seen


def seen_on(platform: SimulatedPlatform) -> evidence_module.Seen:
    return evidence_module.Seen(
        quote=parse_quote(platform.quote(bytes(64))), anchor=platform.anchor
    )


def judged(
    *, now: int = NOW, endorsements: Endorsements | None = None, machine: Machine | None = None
) -> Finding:
    platform = SimulatedPlatform(now=NOW, seed=bytes(32), endorsements=endorsements)
    home = platform.but(machine=machine) if machine else platform
    return look_at_endorsements(platform.collateral(), seen_on(home), now)


def test_endorsements_for_this_platform_are_told_with_their_ends() -> None:
    finding = judged()
    assert finding.level is Level.OK
    assert "2025-12-20" in finding.seen


def test_endorsements_that_end_soon_are_a_warning() -> None:
    finding = judged(now=NOW + 26 * 86_400)
    assert finding.level is Level.WARN
    assert "in 4 days" in finding.seen


@pytest.mark.parametrize("days", [31, -2])
def test_endorsements_out_of_date_are_a_failure(days: int) -> None:
    assert judged(now=NOW + days * 86_400).level is Level.FAIL


def test_endorsements_for_another_platform_are_a_failure() -> None:
    finding = judged(machine=Machine(fmspc=bytes.fromhex("00906ed50000")))
    assert finding.level is Level.FAIL
    assert "00906ed50000" in finding.seen


def test_no_endorsements_are_a_warning() -> None:
    finding = look_at_endorsements(None, evidence_module.Seen(), NOW)
    assert finding.level is Level.WARN
    assert "attested endorsements fetch" in finding.todo


def test_endorsements_under_another_root_than_the_quote_are_a_failure() -> None:
    platform, other = SimulatedPlatform(now=NOW), SimulatedPlatform(now=NOW)
    assert look_at_endorsements(other.collateral(), seen_on(platform), NOW).level is Level.FAIL


def test_file_of_endorsements_that_cannot_be_read_is_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine, collateral_file=str(tmp_path / "none.json"))
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["evidence.endorsements"]["level"]) == (UNAVAILABLE, "fail")


def test_configured_file_of_endorsements_is_the_one_that_is_judged(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SimulatedPlatform(now=int(time.time()))
    (tmp_path / "set.json").write_bytes(encode_dcap_collateral(other.collateral()))
    arguments = config(tmp_path, engine, collateral_file=str(tmp_path / "set.json"))
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["evidence.endorsements"]["level"]) == (UNAVAILABLE, "fail")


def test_set_for_this_platform_is_chosen_among_several() -> None:
    here = SimulatedPlatform(now=NOW, seed=bytes(32))
    fmspc = bytes.fromhex("00906ed50000")
    other = here.but(endorsements=Endorsements(fmspc=fmspc), machine=Machine(fmspc=fmspc))
    sets = [other.collateral(), here.collateral()]
    assert choose_endorsements(sets, seen_on(here)) == sets[1]
    assert choose_endorsements(sets, seen_on(other)) == sets[0]
    nothing = evidence_module.Seen()
    assert choose_endorsements(sets, nothing) == sets[0]
    assert choose_endorsements((), nothing) is None


@pytest.mark.parametrize(("status", "level"), [("UpToDate", Level.OK), ("OutOfDate", Level.WARN)])
def test_status_of_the_platform_is_told_with_its_advisories(status: str, level: Level) -> None:
    levels = (TcbLevel(status=status, advisories=("INTEL-SA-00837",)),)
    here = SimulatedPlatform(now=NOW, endorsements=Endorsements(levels=levels))
    finding = look_at_tcb(here.collateral(), seen_on(here), NOW)
    assert finding is not None
    assert (finding.level, finding.data["status"]) == (level, status)
    assert "INTEL-SA-00837" in finding.seen
    assert look_at_tcb(here.collateral(), evidence_module.Seen(), NOW) is None
    assert look_at_tcb(None, seen_on(here), NOW) is None


def test_what_endorsements_have_against_the_platform_is_told() -> None:
    here = SimulatedPlatform(now=NOW, domain=Domain(td_attributes=1))
    finding = look_at_tcb(here.collateral(), seen_on(here), NOW)
    assert finding is not None
    assert (finding.level, finding.data["code"]) == (Level.WARN, "debug")


def test_folder_of_endorsements_goes_before_the_file_while_it_has_a_set_in_date(
    tmp_path: Path,
) -> None:
    new, old, older = (
        SimulatedPlatform(now=NOW - days * 86_400).collateral() for days in (0, 40, 60)
    )
    file, folder = tmp_path / "file.json", tmp_path / "store"
    file.write_bytes(encode_dcap_collateral(old))
    folder.mkdir()
    for one in (new, older):
        (folder / f"{one.digest.hex}.json").write_bytes(encode_dcap_collateral(one))
    assert load_configured(file, folder, NOW)[:2] == [new, old]
    assert load_configured(file, folder, NOW + 90 * 86_400)[:2] == [old, new]
    assert load_configured(None, folder, NOW + 90 * 86_400) == [new, older]
    assert load_configured(file, None, NOW) == [old]
    assert load_configured(None, None, NOW) == []


def test_folder_of_endorsements_that_is_not_there_is_a_failure(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = config(tmp_path, engine, endorsements=str(tmp_path / "none"))
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["evidence.endorsements"]["level"]) == (UNAVAILABLE, "fail")


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
