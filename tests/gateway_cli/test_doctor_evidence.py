"""`attested doctor`: the evidence of the platform, a dstack guest included."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.attester.base import open_provider
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli.checkup import evidence as evidence_module
from gateway.cli.checkup.evidence import Wanted, look_at_evidence
from gateway.cli.checkup.finding import Finding, Level
from tests.gateway_cli.doctors import NOW, UNAVAILABLE, config, doctor
from tests.support.dstack import DstackAgent, Guest, dstack_guest


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


@pytest.mark.parametrize("version", ["0.\u00b2", "\u0661.0", "9" * 5000, ""])
def test_dstack_whose_version_has_other_digits_than_ascii_is_no_later_one(
    tmp_path: Path, agent: DstackAgent, version: str
) -> None:
    agent.version = version
    assert on_dstack(tmp_path)["evidence.dstack"].level is Level.OK


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
