"""A whole notary on each real provider: RTMR3, epochs through faults, receipts, a hanging host."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.errors import UnavailableError
from attestation.policy import parse_policy
from attestation.result import AttestationResult, Verdict
from attestation.tdx.anchor import INTEL_ANCHOR, Anchor
from attestation.tdx.eventlog import replay
from attestation.tdx.quote import parse_quote
from attestation.verifier import Contents, verify
from gateway.attester.configfs_tsm import open_configfs_tsm
from gateway.attester.guest import GuestProvider
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.attester.vsock_qgs import open_vsock_qgs
from gateway.cli.local.policy import pin_policy
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Found
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.notary.quotes.epochs import Pacing
from tests.notary.audits import all_epochs, bundle_of
from tests.notary.support import found_by
from tests.support.notaries import announcement, new_jti, notary_parts, running_notary, sealed
from tests.support.qgs_server import QgsServer, framed, listening, response
from tests.support.tdx_kernel import TdxKernel, quote_of_report

FAST = NotaryLimits(
    quote_interval=0.0,
    checkpoint_seconds=0.05,
    pacing=Pacing(seconds=0.05, forced_seconds=0.02),
    export_seconds=0.05,
)


class Guest:
    """A TDX guest: its kernel, its host's quoting service, and a provider on either."""

    def __init__(self, kernel: TdxKernel, host: QgsServer, path: Path) -> None:
        self.kernel = kernel
        self.host = host
        self._path = path

    def provider(self, name: str, **options: str) -> GuestProvider:
        """A provider by its scheme."""
        if name == "configfs-tsm":
            return open_configfs_tsm("", options, time.time, kernel=self.kernel)
        options = {"unix": str(self._path), **options}
        return open_vsock_qgs("", options, time.time, kernel=self.kernel)

    def parts(self, folder: Path, provider: GuestProvider) -> NotaryParts:
        """What a notary in this guest is made of, endorsed by the platform's own collateral."""
        platform = self.kernel.platform
        return notary_parts(
            folder, provider=provider, collateral=platform.collateral(), limits=FAST
        )


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    kernel = TdxKernel(SimulatedPlatform(now=int(time.time())))

    def sign(report: bytes) -> bytes:
        return framed(response(quote_of_report(kernel.platform, report)))

    host = QgsServer(sign)
    path = tmp_path / "qgs.socket"
    with ExitStack() as stack:
        stack.enter_context(listening(host, path))
        yield Guest(kernel, host, path)


PROVIDERS = pytest.mark.parametrize("name", ["configfs-tsm", "vsock-qgs"])


def verdict(
    notary: LocalNotary, founds: list[Found], anchor: Anchor, **more: Any
) -> AttestationResult:
    bundle = bundle_of(notary.boot, founds, more.get("epochs", ()))
    contents = {
        item.jti: Contents(request=b"request", response=b"response") for item in bundle.receipts
    }
    text = more.get("policy", pin_policy(notary.boot))
    return verify(bundle, parse_policy(text.encode()), int(time.time()), [anchor], contents)


@PROVIDERS
async def test_receipts_of_a_guest_verify_with_its_root_and_without_it_do_not(
    tmp_path: Path, guest: Guest, name: str
) -> None:
    parts = guest.parts(tmp_path, guest.provider(name))
    async with running_notary(tmp_path, **fields(parts)) as notary:
        receipt = await sealed(notary)
        found = await found_by(notary, receipt.jti, wait_seconds=30)
        assert (notary.boot.provider, notary.boot.anchor) == (name, None)
        result = verdict(notary, [found], guest.kernel.platform.anchor)
        assert result.verdict is Verdict.SIMULATED, [c for c in result.checks if c.fault]
        assert verdict(notary, [found], INTEL_ANCHOR).verdict is Verdict.REJECTED
    assert not guest.kernel.entries
    assert not guest.kernel.open_files


@PROVIDERS
async def test_boot_of_a_guest_extends_rtmr3_by_its_key(
    tmp_path: Path, guest: Guest, name: str
) -> None:
    parts = guest.parts(tmp_path, guest.provider(name))
    async with running_notary(tmp_path, **fields(parts)) as notary:
        evidence = notary.boot.evidence
        assert evidence.event_log is not None
        register = replay(evidence.event_log.parse())[3]
        assert register == guest.kernel.rtmr3 == parse_quote(evidence.quote).body.rtmrs[3]
        assert register != bytes(48)


@PROVIDERS
async def test_second_boot_of_a_guest_goes_on_with_its_runtime_log(
    tmp_path: Path, guest: Guest, name: str
) -> None:
    parts = guest.parts(tmp_path, guest.provider(name))
    parts = replace(parts, plan=replace(parts.plan, runtime_log=tmp_path / "rtmr3.json"))
    for number in (1, 2):
        notary = await LocalNotary.start(parts)
        log = notary.boot.evidence.event_log
        await notary.close()
        assert log is not None
        assert [event["n"] for event in log.data] == list(range(1, number + 1))  # type: ignore[union-attr,index]
    without = replace(parts, plan=replace(parts.plan, runtime_log=None))
    with pytest.raises(UnavailableError) as caught:
        await LocalNotary.start(without)
    assert caught.value.code == "rtmr3"


@PROVIDERS
async def test_foreign_extension_of_a_guests_rtmr3_ends_the_boot(
    tmp_path: Path, guest: Guest, name: str
) -> None:
    parts = guest.parts(tmp_path, guest.provider(name))
    async with running_notary(tmp_path, **fields(parts)) as notary:
        guest.kernel.rtmr3 = b"\x01" * 48
        with pytest.raises(NotaryUnavailable):
            await notary.challenge(bytes(32))
        assert (notary.healthy, notary.reason) == (False, "td_changed")


async def test_older_kernel_boots_and_verifiers_ask_for_the_policys_leave(
    tmp_path: Path, guest: Guest
) -> None:
    guest.kernel.registers_at = None
    parts = guest.parts(tmp_path, guest.provider("configfs-tsm"))
    async with running_notary(tmp_path, **fields(parts)) as notary:
        receipt = await sealed(notary)
        found = await found_by(notary, receipt.jti, wait_seconds=30)
        assert notary.boot.evidence.event_log is None
        anchor, leave = guest.kernel.platform.anchor, 'unbound_keys = "allow"\n'
        policy = pin_policy(notary.boot)
        assert leave in policy
        assert verdict(notary, [found], anchor, policy=policy).verdict is Verdict.SIMULATED
        strict = policy.replace(leave, "")
        assert verdict(notary, [found], anchor, policy=strict).verdict is Verdict.NOT_ACCEPTED


@pytest.mark.parametrize("seed", range(3))
async def test_epochs_keep_coming_through_bursts_of_a_busy_driver(
    tmp_path: Path, guest: Guest, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - which faults come, repeatably
    kinds = [errno.EBUSY] * 4 + [errno.EINTR, errno.ETIMEDOUT]
    kernel = guest.kernel
    parts = guest.parts(tmp_path, guest.provider("configfs-tsm", patience="600"))
    async with running_notary(tmp_path, **fields(parts)) as notary:
        founds = []
        for _ in range(5):
            burst = dice.choices(kinds, k=dice.randrange(1, 30))
            kernel.faults.making.extend(burst)
            kernel.faults.chunk = dice.randrange(1, 3000)
            receipt = await sealed(notary)
            founds.append(await found_by(notary, receipt.jti, wait_seconds=30))
        epochs = await all_epochs(notary)
        assert len(epochs) >= 5
        assert kernel.slept
        assert not kernel.faults.making
        result = verdict(notary, founds, kernel.platform.anchor, epochs=epochs)
        assert result.verdict is Verdict.SIMULATED, [c for c in result.checks if c.fault]


async def test_receipts_are_sealed_while_the_driver_is_busy_for_good(
    tmp_path: Path, guest: Guest
) -> None:
    parts = guest.parts(tmp_path, guest.provider("configfs-tsm"))
    limits = replace(FAST, closing_seconds=0.0)
    async with running_notary(tmp_path, **{**fields(parts), "limits": limits}) as notary:
        guest.kernel.faults.making.extend([errno.EBUSY] * 100_000)
        for _ in range(20):
            assert (await sealed(notary)).token
        assert notary.healthy
        with pytest.raises(UnavailableError) as caught:
            await notary.challenge(bytes(32))
        assert caught.value.code in {"quote_failed", "quote_pause"}
    assert not guest.kernel.entries


async def test_host_that_never_answers_again_does_not_keep_a_notary_from_closing(
    tmp_path: Path, guest: Guest
) -> None:
    parts = guest.parts(tmp_path, guest.provider("vsock-qgs", timeout="600"))
    limits = replace(FAST, closing_seconds=0.05)
    async with running_notary(tmp_path, **{**fields(parts), "limits": limits}) as notary:
        asked = threading.Event()
        guest.host.answer = lambda _report: asked.set()
        challenge = asyncio.create_task(notary.challenge(bytes(32)))
        assert await asyncio.to_thread(asked.wait, 30)
        notary.announce(announcement(new_jti()))
    with pytest.raises(NotaryUnavailable):
        await challenge


@PROVIDERS
async def test_host_that_signs_for_another_domain_gets_no_boot(
    tmp_path: Path, guest: Guest, name: str
) -> None:
    kernel = guest.kernel
    other = replace(kernel.platform.domain, mrtd=b"\x01" * 48)
    kernel.write_quotes = lambda _quote: kernel.platform.quote(bytes(64), domain=other)
    guest.host.answer = lambda report: framed(
        response(kernel.platform.quote(report[128:192], domain=other))
    )
    parts = guest.parts(tmp_path, guest.provider(name))
    with pytest.raises(UnavailableError) as caught:
        await LocalNotary.start(parts)
    expected = {"configfs-tsm": "boot_quote", "vsock-qgs": "qgs_other_report"}
    assert caught.value.code == expected[name]


def fields(parts: NotaryParts) -> dict[str, Any]:
    """The parts that differ from what `running_notary` takes by itself."""
    names = ("provider", "collateral", "limits", "plan")
    return {name: getattr(parts, name) for name in names}
