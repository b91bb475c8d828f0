"""A past `--at`: the verdict of then decides, and what the evidence is worth now stands beside."""

from __future__ import annotations

import json
import sys

import pytest

from attestation.cli.main import main
from attestation.cli.moments import STILL_TO_COME
from attestation.encoding.instants import instant
from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.endorsement_store import stored_name
from tests.cli.support import Folder, Stdin, printed
from tests.support.bundles import NOW

DAY = 86_400
LATE = NOW + 40 * DAY


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(LATE))


def grounds(folder: Folder) -> list[str]:
    return ["--policy", folder["policy.toml"], "--root", folder["root.pem"]]


def at(folder: Folder, moment: int | None, *more: str) -> int:
    stated = [] if moment is None else ["--at", str(moment)]
    return main(["verify", folder["bundle.json"], *grounds(folder), *stated, *more])


def test_exit_code_is_that_of_the_stated_instant_and_now_is_told(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at(folder, NOW + 60) == 15
    lines = capsys.readouterr().out.splitlines()
    (now,) = [line for line in lines if line.startswith("now: ")]
    assert now.startswith("now: NOT-ACCEPTED (COLLATERAL-FRESH of boot ")
    assert "had run out" in now
    assert now.endswith(f"as of {instant(LATE)}")
    assert lines[-1].startswith("SIMULATED (exit 15)")
    assert lines[-3].startswith(f"verified as of {instant(NOW + 60)}")


def test_json_says_what_differs(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert at(folder, NOW + 60, "--json") == 15
    value = printed(capsys)
    assert value["verdict"] == "SIMULATED"
    now = value["now"]
    assert (now["at"], now["at_utc"], now["verdict"]) == (LATE, instant(LATE), "NOT-ACCEPTED")
    assert now["checks"][:2] == ["QUOTE-GENUINE", "COLLATERAL-FRESH"]
    assert "MEASUREMENTS" in now["checks"]
    assert "BOOT-STATEMENT" not in now["checks"]


def test_instant_that_is_still_to_come_is_said_and_changes_no_exit_code(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {}
    for clock in (NOW + 60, NOW + 59):
        monkeypatch.setattr("attestation.cli.files.time.time", lambda now=clock: float(now))
        assert at(folder, NOW + 60, "--json") == 15
        told[clock] = printed(capsys)["not_proved"]
        assert at(folder, NOW + 60) == 15
        text = " ".join(capsys.readouterr().out.split())
        assert ("an instant that is still to come" in text) == (clock < NOW + 60)
    assert told[NOW + 59] == [*told[NOW + 60], STILL_TO_COME]


@pytest.mark.parametrize("moment", [None, LATE, LATE + 1])
def test_without_a_past_instant_there_is_one_verdict(
    folder: Folder, moment: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert at(folder, moment) == 11
    assert "now: " not in capsys.readouterr().out
    assert at(folder, moment, "--json") == 11
    assert printed(capsys)["now"] is None


def test_evidence_that_is_still_good_says_so(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(NOW + DAY))
    assert at(folder, NOW + 60) == 15
    assert "now: SIMULATED (nothing differs), as of" in capsys.readouterr().out
    assert at(folder, NOW + 60, "--json") == 15
    now = printed(capsys)["now"]
    assert (now["verdict"], now["checks"]) == ("SIMULATED", [])


def test_evidence_can_be_better_now_than_then(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attestation.cli.files.time.time", lambda: float(NOW + 60))
    assert at(folder, NOW - 3 * DAY) == 11
    out = capsys.readouterr().out
    assert "now: SIMULATED (all checks pass, on simulated evidence" in out
    assert out.splitlines()[-1].startswith("because of COLLATERAL-FRESH")


def test_store_offers_each_instant_its_own_endorsements(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = folder.gateway.machine
    store = folder.path / "store"
    store.mkdir()
    for one in (machine.collateral(), machine.collateral(at=LATE - DAY)):
        (store / stored_name(one.digest)).write_bytes(encode_dcap_collateral(one))
    assert at(folder, NOW + 60, "--endorsements", str(store), "--json") == 15
    now = printed(capsys)["now"]
    assert (now["verdict"], now["checks"]) == ("SIMULATED", [])


def test_endorsements_from_standard_input_are_read_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = folder.gateway.machine.collateral(at=NOW + 30)
    monkeypatch.setattr(sys, "stdin", Stdin(json.dumps(fresh.to_json()).encode()))
    assert at(folder, NOW + 60, "--endorsements", "-", "--json") == 15
    assert printed(capsys)["now"]["verdict"] == "NOT-ACCEPTED"


def test_file_that_cannot_be_read_has_no_verdict_of_now(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder.write("broken.json", b"{")
    assert main(["verify", broken, *grounds(folder), "--at", str(NOW), "--json"]) == 13
    assert printed(capsys)["now"] is None


def test_quotes_are_judged_at_both_instants(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = folder.gateway.machine
    quote = folder.write("quote.bin", machine.quote(bytes(64)))
    collateral = folder.write("c.json", json.dumps(machine.collateral().to_json()).encode())
    arguments = [quote, "--collateral", collateral, "--root", folder["root.pem"]]
    assert main(["quote", *arguments, "--at", str(NOW + 60)]) == 12
    assert "now: NOT-ACCEPTED (COLLATERAL-FRESH of quote" in capsys.readouterr().out
    assert main(["quote", *arguments, "--json"]) == 11
    assert printed(capsys)["now"] is None


def test_policys_version_stands_beside_its_digest(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    text = folder.gateway.policy_toml()
    named = folder.write("named.toml", f'version = "spring 2027"\n{text}'.encode())
    arguments = ["verify", folder["bundle.json"], "--root", folder["root.pem"], "--at", str(NOW)]
    assert main([*arguments, "--policy", named]) == 15
    assert ' (version "spring 2027"), its signature not checked\n' in capsys.readouterr().out
    assert main([*arguments, "--policy", named, "--json"]) == 15
    value = printed(capsys)
    assert value["policy_version"] == "spring 2027"
    assert len(value["policy_digest"]) == 64
    assert main([*arguments, "--policy", folder["policy.toml"], "--json"]) == 15
    assert printed(capsys)["policy_version"] is None
    assert named not in json.dumps(value)
