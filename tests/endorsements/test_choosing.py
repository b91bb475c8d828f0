"""Which of the stored endorsements a notary shows, and what it says of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from attestation.tdx.collateral import Collateral, encode_dcap_collateral
from gateway.attester.simulated.facts import DAY, Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.endorsements.store import EndorsementStore
from tests.endorsements.stage import N30, NEW, NOW, OLD, PLATFORM, Stage, issued
from tests.refusals import refusal


def test_newest_set_that_fits_is_chosen_and_said_once(stage: Stage) -> None:
    stage.keep(OLD, NEW)
    endorser = stage.endorser()
    assert endorser.choose() == NEW
    assert endorser.choose() == NEW
    assert stage.events == [
        (
            "endorsements.chosen",
            {"digest": NEW.digest.hex, "number": 20, "until": NOW + 30 * DAY - 1},
        )
    ]
    assert endorser.seconds_left() == 30 * DAY - 1


def test_set_that_appears_later_takes_the_place_of_an_older_one(stage: Stage) -> None:
    stage.keep(OLD)
    endorser = stage.endorser()
    assert endorser.choose() == OLD
    stage.keep(NEW)
    assert endorser.choose() == NEW
    (stage.store.folder / f"{NEW.digest.hex}.json").unlink()
    assert endorser.choose() == OLD


@pytest.mark.parametrize(
    ("unfit", "told"),
    [
        (lambda: issued(**N30, tcb_expires=-1), []),
        (lambda: issued(**N30, tcb_issued=60), []),
        (lambda: issued(**N30, signer="pck"), ["refused"]),
        (lambda: issued(**N30, revoked=frozenset({"tcb_signing"})), ["refused"]),
        (lambda: issued(**N30, crl_extensions=False), ["refused"]),
        (lambda: issued(**N30, pce_id=b"\x01\x00"), []),
        (
            lambda: replace(
                issued(**N30),
                tcb_info_issuer_chain=NEW.tcb_info_issuer_chain + "\n",
            ),
            ["refused"],
        ),
        (
            lambda: SimulatedPlatform(
                now=NOW, seed=b"x", endorsements=Endorsements(**N30)
            ).collateral(),
            ["refused"],
        ),
        (
            lambda: SimulatedPlatform(
                now=NOW,
                seed=b"endorsed gateway",
                machine=Machine(fmspc=b"\xff" * 6),
                endorsements=Endorsements(fmspc=b"\xff" * 6, **N30),
            ).collateral(),
            [],
        ),
    ],
)
def test_newer_set_that_does_not_fit_is_passed_over(
    stage: Stage, unfit: Callable[[], Collateral], told: list[str]
) -> None:
    stage.keep(NEW, unfit())
    endorser = stage.endorser()
    assert endorser.choose() == NEW
    assert endorser.choose() == NEW
    assert stage.told == [*told, "chosen"]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"revoked": frozenset({"pck"})}, "revoked"),
        ({"levels": ()}, "no_tcb_level"),
    ],
)
def test_set_that_speaks_against_the_platform_is_shown_all_the_same(
    stage: Stage, facts: dict[str, Any], code: str
) -> None:
    bad_news = issued(**N30, **facts)
    stage.keep(NEW, bad_news)
    endorser = stage.endorser()
    assert endorser.choose() == bad_news
    assert endorser.choose() == bad_news
    assert stage.told == ["against", "chosen"]
    assert stage.events[0][1]["reason"] == code


def test_without_a_set_that_fits_there_are_none_and_it_is_said_once(stage: Stage) -> None:
    endorser = stage.endorser()
    assert endorser.choose() is None
    assert endorser.choose() is None
    assert stage.events == [("endorsements.absent", {"reason": "no_set"})]
    assert math.isnan(endorser.seconds_left())
    stage.keep(issued(tcb_expires=-1))
    assert endorser.choose() is None
    assert stage.events[1:] == [("endorsements.absent", {"reason": "out_of_date"})]


def test_set_that_ends_while_it_is_shown_stays_until_there_is_a_newer_one(stage: Stage) -> None:
    stage.keep(OLD)
    endorser = stage.endorser()
    endorser.choose()
    stage.time.now += 31 * DAY
    assert endorser.choose() == OLD
    assert endorser.seconds_left() == -DAY - 1
    assert stage.told == ["chosen", "absent"]
    renewed = PLATFORM.collateral(at=NOW + 30 * DAY)
    stage.keep(renewed)
    assert endorser.choose() == renewed
    assert endorser.choose() == renewed
    assert stage.told == ["chosen", "absent", "chosen"]


def test_file_of_the_settings_is_shown_until_the_store_has_something(stage: Stage) -> None:
    endorser = stage.endorser(collateral=OLD)
    assert endorser.choose() == OLD
    assert endorser.seconds_left() == 30 * DAY - 1
    stage.keep(OLD)
    assert endorser.choose() == OLD
    assert stage.told == ["absent", "chosen"]
    assert stage.endorser(collateral=OLD, endorsements=None).choose() == OLD


def test_file_whose_dates_cannot_be_read_has_no_end(stage: Stage) -> None:
    assert math.isnan(stage.endorser(collateral=replace(OLD, pck_crl=b"")).seconds_left())


def test_store_that_cannot_be_read_changes_nothing(stage: Stage) -> None:
    stage.keep(OLD)
    endorser = stage.endorser()
    endorser.choose()
    stage.store.folder.rename(stage.path / "gone")
    assert endorser.choose() == OLD
    assert stage.events[-1] == ("endorsements.absent", {"reason": "endorsement_store"})


def test_broken_files_are_said_once_and_passed_over(stage: Stage) -> None:
    stage.keep(OLD)
    (stage.store.folder / f"{'0' * 64}.json").write_bytes(b"{")
    (stage.store.folder / f"{'1' * 64}.json").mkdir()
    endorser = stage.endorser()
    assert endorser.choose() == OLD
    assert endorser.choose() == OLD
    assert stage.told == ["refused", "refused", "chosen"]


def test_fault_of_ours_changes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(EndorsementStore, "names", fail)
    assert stage.endorser(collateral=OLD).choose() == OLD
    assert stage.events == [("endorsements.absent", {"reason": "internal"})]


def test_settings_name_a_store_that_must_be_there(tmp_path: Path) -> None:
    from gateway.notary.opening import _open_store  # noqa: PLC0415

    assert _open_store(None) is None
    assert refusal(_open_store, tmp_path / "absent", error=UnavailableError) == "endorsement_store"
    store = _open_store(tmp_path)
    assert store is not None
    (tmp_path / f"{OLD.digest.hex}.json").write_bytes(encode_dcap_collateral(OLD))
    assert store.names() == (OLD.digest.hex,)
