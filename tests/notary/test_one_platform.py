"""Two boots of one trust domain, and what an auditor sees of both."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from attestation.bundle import Bundle, make_bundle
from attestation.policy import parse_policy
from attestation.result import AttestationResult, Status, Verdict
from attestation.verifier import Contents, verify
from gateway.attester.base import QuoteProvider, open_provider
from gateway.cli.local.policy import pin_policy
from gateway.notary.interface import Boot, Found
from gateway.notary.local import LocalNotary
from gateway.notary.quotes.epochs import Pacing
from tests.notary.audits import bundle_of
from tests.support.disks import copy_while_running
from tests.support.notaries import ALICE, notary_parts, running_notary, sealed

PACING = Pacing(seconds=10.0, forced_seconds=0.05)


@asynccontextmanager
async def booted(folder: Path, provider: QuoteProvider, events: Path) -> AsyncIterator[LocalNotary]:
    """One boot on this platform, whose earlier key events are noted in `events`."""
    parts = notary_parts(folder)
    async with running_notary(
        folder,
        provider=provider,
        plan=replace(parts.plan, runtime_log=events),
        limits=replace(parts.limits, pacing=PACING),
    ) as notary:
        yield notary


async def anchored(notary: LocalNotary) -> Found:
    found = await notary.find((await sealed(notary)).jti, ALICE, wait_seconds=30)
    assert found is not None
    assert found.epoch is not None
    return found


def audited(boot: Boot, *bundles: Bundle, starts: int = 2) -> AttestationResult:
    """What an auditor concludes who lets a trust domain start its notary so many times."""
    merged = make_bundle(
        boots=[boot for bundle in bundles for boot in bundle.boots],
        collateral=[item for bundle in bundles for item in bundle.collateral.values()],
        epochs=[epoch for bundle in bundles for epoch in bundle.epochs],
        receipts=[item for bundle in bundles for item in bundle.receipts],
    )
    policy = pin_policy(boot).replace("max_key_events = 1", f"max_key_events = {starts}")
    contents = {
        item.jti: Contents(request=b"request", response=b"response") for item in merged.receipts
    }
    assert boot.anchor is not None
    return verify(merged, parse_policy(policy.encode()), int(time.time()), [boot.anchor], contents)


def failed(result: AttestationResult) -> set[str]:
    return {check.id for check in result.checks if check.status is Status.FAIL}


async def test_second_boot_of_a_platform_continues_the_log_of_the_first(tmp_path: Path) -> None:
    provider, events = open_provider("simulated:"), tmp_path / "events.json"
    boots, bundles = [], []
    for _ in range(2):
        async with booted(tmp_path, provider, events) as notary:
            boots.append(notary.boot)
            bundles.append(bundle_of(notary.boot, [await anchored(notary)]))
    result = audited(boots[-1], *bundles)
    assert result.verdict is Verdict.SIMULATED
    assert sum(c.id == "BOOT-CHAIN" and c.status is Status.PASS for c in result.checks) == 1
    # By default one trust domain may start its notary once only.
    result = audited(boots[-1], *bundles, starts=1)
    assert (result.verdict, failed(result)) == (Verdict.NOT_ACCEPTED, {"EVENT-LOG"})


async def test_boot_over_an_older_copy_of_the_data_folder_is_rejected(tmp_path: Path) -> None:
    provider, events = open_provider("simulated:"), tmp_path / "events.json"
    async with booted(tmp_path, provider, events) as notary:
        early = await anchored(notary)
        copy_while_running(tmp_path / "data", tmp_path / "copy" / "data")
        late = await anchored(notary)
        first = bundle_of(notary.boot, [early, late])
    async with booted(tmp_path / "copy", provider, events) as notary:
        boot = notary.boot
        second = bundle_of(boot, [await anchored(notary)])
    result = audited(boot, first, second)
    assert (result.verdict, failed(result)) == (Verdict.REJECTED, {"BOOT-CHAIN"})


async def test_two_boots_over_copies_of_one_data_folder_are_rejected(tmp_path: Path) -> None:
    provider, events = open_provider("simulated:"), tmp_path / "events.json"
    async with booted(tmp_path, provider, events) as notary:
        boot = notary.boot
        bundles = [bundle_of(boot, [await anchored(notary)])]
    shutil.copytree(tmp_path / "data", tmp_path / "copy" / "data")
    for folder in (tmp_path, tmp_path / "copy"):
        async with booted(folder, provider, events) as notary:
            boot = notary.boot
            bundles.append(bundle_of(boot, [await anchored(notary)]))
    result = audited(boot, *bundles, starts=3)
    assert (result.verdict, failed(result)) == (Verdict.REJECTED, {"BOOT-CHAIN"})
