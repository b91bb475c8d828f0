"""`attested doctor`: endorsements, for this platform and in date."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from attestation.tdx.collateral import encode_dcap_collateral
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.facts import Domain, Endorsements, Machine, TcbLevel
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.cli.checkup import evidence as evidence_module
from gateway.cli.checkup.endorsed import (
    Choice,
    choose_endorsements,
    load_configured,
    look_at_endorsements,
    look_at_tcb,
)
from gateway.cli.checkup.finding import Finding, Level
from tests.gateway_cli.doctors import NOW, UNAVAILABLE, config, doctor


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
    assert "in 3 days" in finding.seen


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
    assert choose_endorsements(sets, seen_on(here)).collateral == sets[1]
    assert choose_endorsements(sets, seen_on(other)).collateral == sets[0]
    assert choose_endorsements((), seen_on(here)) == Choice()
    own = evidence_module.Seen(collateral=sets[0])
    assert choose_endorsements((), own) == Choice(collateral=sets[0])


def test_set_under_another_root_is_not_chosen_though_it_is_for_this_platform() -> None:
    here, stranger = SimulatedPlatform(now=NOW), SimulatedPlatform(now=NOW)
    sets = [stranger.collateral(), here.collateral()]
    assert choose_endorsements(sets, seen_on(here)) == Choice(collateral=sets[1])
    without_quote = evidence_module.Seen(anchor=here.anchor)
    assert choose_endorsements(sets, without_quote) == Choice(collateral=sets[1])


def test_what_was_found_is_told_where_none_fits() -> None:
    here, stranger = SimulatedPlatform(now=NOW), SimulatedPlatform(now=NOW)
    fmspc = bytes.fromhex("00906ed50000")
    other = here.but(endorsements=Endorsements(fmspc=fmspc), machine=Machine(fmspc=fmspc))
    unsigned = here.but(endorsements=Endorsements(signer="pck"))
    sets = [one.collateral() for one in (stranger, other, unsigned, stranger)]
    choice = choose_endorsements(sets, seen_on(here))
    assert choice.collateral is None
    assert choice.refused is not None
    assert choice.refused.level is Level.FAIL
    assert "attested endorsements fetch" in choice.refused.todo
    listed = choice.refused.data["found"]
    assert isinstance(listed, list)
    assert len(listed) == 3
    assert stranger.anchor.name in listed[0]
    assert "00906ed50000" in listed[1]
    assert f"under {here.anchor.name}: " in choice.refused.seen
    assert Machine().fmspc.hex() in choice.refused.seen
    none = choose_endorsements(sets[:1], evidence_module.Seen())
    assert none.refused is not None
    assert "for any platform under intel" in none.refused.seen


def test_no_more_than_a_few_of_many_sets_are_listed_in_words() -> None:
    here = SimulatedPlatform(now=NOW)
    sets = [SimulatedPlatform(now=NOW).collateral() for _ in range(5)]
    refused = choose_endorsements(sets, seen_on(here)).refused
    assert refused is not None
    assert "and 2 more" in refused.seen


def test_folder_without_a_set_that_fits_is_a_failure_that_names_what_is_there(
    tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = SimulatedPlatform(now=int(time.time()))
    one = stranger.collateral()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / f"{one.digest.hex}.json").write_bytes(encode_dcap_collateral(one))
    arguments = config(tmp_path, engine, endorsements=str(tmp_path / "store"))
    code, found = doctor(*arguments, capsys=capsys)
    assert (code, found["evidence.endorsements"]["level"]) == (UNAVAILABLE, "fail")
    assert stranger.anchor.name in found["evidence.endorsements"]["seen"]


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
