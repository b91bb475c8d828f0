"""A running notary shows the newest endorsements that its operator fetched."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.bundle import Bundle, parse_bundle
from attestation.errors import UnavailableError
from gateway.api.attestation import evidence_bundle
from gateway.api.receipts import _bundle
from gateway.endorsements.store import EndorsementStore
from gateway.notary.clock import Clock
from gateway.notary.local import LocalNotary
from gateway.notary.log.folder import BOOT_FILE
from gateway.notary.parts import NotaryLimits
from tests.endorsements.stage import NEW, OLD, PLATFORM, Bare, Stage
from tests.support.notaries import ALICE, notary_parts, running_notary, sealed


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
