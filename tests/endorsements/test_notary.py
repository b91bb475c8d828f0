"""A running notary shows the newest endorsements that its operator fetched."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import Bundle, parse_bundle
from attestation.errors import MalformedError, UnavailableError
from attestation.tdx.collateral import Collateral, encode_dcap_collateral
from attestation.tdx.endorsements import parse_endorsements
from attestation.tdx.quote import canonical_quote, parse_quote
from gateway.api.attestation import evidence_bundle
from gateway.api.receipts import _bundle
from gateway.attester.simulated.facts import DAY, Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.simulated.provider import SimulatedProvider
from gateway.endorsements.store import EndorsementStore
from gateway.notary.clock import Clock
from gateway.notary.endorser import Endorser
from gateway.notary.interface import Boot
from gateway.notary.local import LocalNotary
from gateway.notary.log.folder import BOOT_FILE
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.notary.wire import replies
from gateway.notary.wire.replies import Condition
from tests.refusals import refusal
from tests.support.clocks import FakeTime
from tests.support.notaries import ALICE, notary_parts, running_notary, sealed

NOW = int(time.time())
PLATFORM = SimulatedPlatform(now=NOW, seed=b"endorsed gateway")
QUOTE = parse_quote(canonical_quote(PLATFORM.quote(bytes(64))))


class Bare(SimulatedProvider):
    """A platform that hands out no endorsements of its own, as real ones do."""

    def collateral(self) -> None:  # type: ignore[override]
        return None


def issued(**changes: Any) -> Collateral:
    return PLATFORM.but(endorsements=Endorsements(**changes)).collateral()


N30: dict[str, Any] = {"evaluation_number": 30, "qe_evaluation_number": 30}
OLD = issued(evaluation_number=19)
NEW = issued(evaluation_number=20)


class Stage:
    """A store, the events that were logged, and time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = EndorsementStore(path / "store")
        self.store.folder.mkdir()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.time = FakeTime(wall=float(NOW))

    def keep(self, *sets: Collateral) -> None:
        for one in sets:
            self.store.add(parse_endorsements(one))

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def parts(self, **changes: Any) -> NotaryParts:
        changes = {"endorsements": self.store, "emit": self.emit, **changes}
        return notary_parts(self.path, provider=Bare(PLATFORM), **changes)

    def endorser(self, **changes: Any) -> Endorser:
        return Endorser(self.parts(clock=self.time.clock, **changes), QUOTE)

    @property
    def told(self) -> list[str]:
        return [event.removeprefix("endorsements.") for event, _ in self.events]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# -- choosing ------------------------------------------------------------------------------


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


# -- a running notary ----------------------------------------------------------------------


def digests(bundle: Bundle) -> set[str]:
    """The one set of a bundle that every quote in it names."""
    named = {boot.collateral for boot in bundle.boots}
    named |= {epoch.collateral for epoch in bundle.epochs}
    assert named == set(bundle.collateral)
    return {digest.hex for digest in named if digest is not None}


def kept(notary: LocalNotary) -> Bundle:
    return parse_bundle((notary.folder / BOOT_FILE).read_bytes())


async def anchored(notary: LocalNotary) -> Bundle:
    one = await sealed(notary)
    found = await notary.find(one.jti, ALICE, wait_seconds=20.0)
    assert found is not None
    assert found.epoch is not None
    assert found.token is not None
    return _bundle(notary.boot, found, found.token)


async def test_receipts_carry_the_set_that_was_in_the_store_at_the_start(stage: Stage) -> None:
    stage.keep(OLD)
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        assert digests(await anchored(notary)) == {OLD.digest.hex}
        assert digests(kept(notary)) == {OLD.digest.hex}
        assert b"attested_endorsements_seconds_left 2." in await notary.metrics_text()


def changes_of(stage: Stage) -> dict[str, Any]:
    return {"provider": Bare(PLATFORM), "endorsements": stage.store, "emit": stage.emit}


async def test_newer_set_is_in_the_bundles_of_the_next_epoch_and_of_earlier_ones(
    stage: Stage,
) -> None:
    renewals: list[int] = []
    stage.keep(OLD)
    changes = changes_of(stage) | {"on_renewal": lambda: renewals.append(1)}
    async with running_notary(stage.path, **changes) as notary:
        before = await anchored(notary)
        statement = notary.boot.evidence.statement
        stage.keep(NEW)
        assert digests(await anchored(notary)) == {OLD.digest.hex}
        await notary._renewal.look()
        after = await anchored(notary)
        assert digests(after) == {NEW.digest.hex}
        assert digests(kept(notary)) == {NEW.digest.hex}
        first = await notary.epoch(0)
        assert first is not None
        assert first.statement == before.epochs[0].statement
        assert digests(evidence_bundle(notary.boot, epochs=[first])) == {NEW.digest.hex}
        assert notary.boot.evidence.statement == statement
        assert renewals == [1]
    assert [path.name for path in notary.folder.iterdir() if path.name.startswith(".")] == []


async def test_receipt_of_an_ended_boot_has_the_last_set_of_that_boot(stage: Stage) -> None:
    stage.keep(OLD)
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        one = await sealed(notary)
        await notary.find(one.jti, ALICE, wait_seconds=20.0)
        stage.keep(NEW)
        await notary._renewal.look()
        await anchored(notary)
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        found = await notary.find(one.jti, ALICE)
        assert found is not None
        assert found.token is not None
        assert found.earlier is not None
        assert digests(_bundle(notary.boot, found, found.token)) == {NEW.digest.hex}


async def test_idle_boot_is_renewed_every_minute(stage: Stage) -> None:
    stage.keep(OLD)
    parts = stage.parts(clock=replace(stage.time.clock))
    notary = await LocalNotary.start(parts)
    try:
        stage.keep(NEW)
        await stage.time.advance(61.0)
        async with asyncio.timeout(60):
            while notary.boot.collateral != NEW:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert digests(evidence_bundle(notary.boot)) == {NEW.digest.hex}
    finally:
        closing = asyncio.ensure_future(notary.close())
        while not closing.done():
            await stage.time.advance(1.0)
            await asyncio.sleep(0.005)


async def test_store_that_hangs_holds_up_no_epoch_and_has_one_look_at_most(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.keep(OLD)
    hanging, released = threading.Event(), threading.Event()
    looks: list[int] = []

    def hang(_: EndorsementStore) -> tuple[str, ...]:
        looks.append(1)
        hanging.set()
        released.wait()
        return ()

    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    async with running_notary(stage.path, **changes_of(stage)) as notary:
        monkeypatch.setattr(EndorsementStore, "names", hang)
        looking = replace(notary._renewal._parts, clock=Clock(sleep=no_pause))
        notary._renewal._parts = looking
        notary._renewal.close()
        notary._renewal.start()
        try:
            assert await asyncio.to_thread(hanging.wait, 60)
            assert digests(await anchored(notary)) == {OLD.digest.hex}
            assert digests(await anchored(notary)) == {OLD.digest.hex}
            assert looks == [1]
        finally:
            notary._renewal.close()
            released.set()


async def test_store_that_hangs_at_the_start_ends_it_with_a_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, released = threading.Event(), threading.Event()
    limits = NotaryLimits(quote_interval=0.0, store_timeout=12_345.0)

    def hang(_: EndorsementStore) -> tuple[str, ...]:
        hanging.set()
        released.wait()
        return ()

    async def until_it_hangs(seconds: float) -> None:
        if seconds == limits.store_timeout:
            assert await asyncio.to_thread(hanging.wait, 60)
            return
        await asyncio.sleep(seconds)

    stage.keep(OLD)
    parts = notary_parts(stage.path, **changes_of(stage), limits=limits)
    with monkeypatch.context() as patched:
        patched.setattr(EndorsementStore, "names", hang)
        try:
            with pytest.raises(UnavailableError) as caught:
                await LocalNotary.start(replace(parts, clock=Clock(sleep=until_it_hangs)))
        finally:
            released.set()
    assert caught.value.code == "endorsements_timeout"
    assert f"{stage.store.folder} within 12345 s" in caught.value.expected
    assert "evidence.endorsements" in caught.value.hint
    # The data folder was given up.
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        assert digests(evidence_bundle(notary.boot)) == {OLD.digest.hex}


async def test_disk_that_cannot_keep_the_renewal_does_not_hold_it_up(stage: Stage) -> None:
    stage.keep(OLD)
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        partial = f".{BOOT_FILE}.{notary.boot.evidence.statement.digest.hex[:8]}"
        (notary.folder / partial).mkdir()
        stage.keep(NEW)
        await notary._renewal.look()
        assert digests(await anchored(notary)) == {NEW.digest.hex}
        assert digests(kept(notary)) == {OLD.digest.hex}
        assert stage.told[-1] == "unkept"
        (notary.folder / partial).rmdir()


async def test_partial_file_of_an_earlier_try_is_no_hindrance(stage: Stage) -> None:
    stage.keep(OLD)
    async with running_notary(stage.path, **changes_of(stage)) as notary:
        partial = f".{BOOT_FILE}.{notary.boot.evidence.statement.digest.hex[:8]}"
        (notary.folder / partial).write_bytes(b"half")
        stage.keep(NEW)
        await notary._renewal.look()
        await anchored(notary)
        assert digests(kept(notary)) == {NEW.digest.hex}


async def test_notary_without_a_store_looks_for_nothing(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        assert notary.boot.collateral is not None
        assert digests(await anchored(notary)) == {notary.boot.collateral.digest.hex}


# -- workers -------------------------------------------------------------------------------


def boot_of(collateral: Collateral | None = OLD) -> Boot:
    from tests.support.bundles import Gateway  # noqa: PLC0415 - slow to make

    gateway = Gateway()
    evidence = replace(
        gateway.evidence, collateral=None if collateral is None else collateral.digest
    )
    return Boot(
        evidence=evidence,
        collateral=collateral,
        anchor=gateway.anchor,
        provider="simulated",
        keyset_digest=evidence.statement.keyset_digest,
        log_origin=evidence.statement.log_origin,
        cache_salt_key=bytes(32),
    )


HEALTHY = Condition(healthy=True, reason="")


def test_worker_takes_renewed_endorsements() -> None:
    for one in (NEW, None):
        payload = replies.encode_hello(boot_of(one), HEALTHY)
        assert replies.decode_renewal(payload, boot_of()) == (boot_of(one), HEALTHY)


@pytest.mark.parametrize(
    "change", [{"provider": "other"}, {"anchor": None}, {"cache_salt_key": b"x" * 32}]
)
def test_worker_refuses_a_renewal_that_changes_anything_else(change: dict[str, Any]) -> None:
    payload = replies.encode_hello(replace(boot_of(NEW), **change), HEALTHY)
    assert refusal(replies.decode_renewal, payload, boot_of())


def test_worker_refuses_a_renewal_by_another_boot() -> None:
    from tests.support.bundles import Gateway  # noqa: PLC0415

    other = Gateway(seed="another").evidence
    boot = boot_of(None)
    renewed = replace(
        boot,
        evidence=replace(other, collateral=None),
        keyset_digest=other.statement.keyset_digest,
        log_origin=other.statement.log_origin,
    )
    with pytest.raises(MalformedError):
        replies.decode_renewal(replies.encode_hello(renewed, HEALTHY), boot)


def test_settings_name_a_store_that_must_be_there(tmp_path: Path) -> None:
    from gateway.notary.opening import _open_store  # noqa: PLC0415

    assert _open_store(None) is None
    assert refusal(_open_store, tmp_path / "absent", error=UnavailableError) == "endorsement_store"
    store = _open_store(tmp_path)
    assert store is not None
    (tmp_path / f"{OLD.digest.hex}.json").write_bytes(encode_dcap_collateral(OLD))
    assert store.names() == (OLD.digest.hex,)
