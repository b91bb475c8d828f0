"""What the notary has quoted: its boot, challenges, and the register it continues."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.strict_json import parse_json
from attestation.errors import UnavailableError, UsageError
from attestation.merkle.tree import leaf_hash, root_hash, verify_inclusion
from attestation.statement import nonce_root, parse_challenge_statement
from attestation.tdx.events import replay
from attestation.tdx.quote import parse_quote
from gateway.attester.base import QuoteProvider
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Boot
from gateway.notary.local import LocalNotary
from gateway.notary.log.leaves import entry_of
from gateway.notary.parts import NotaryLimits
from tests.notary.support import boot_of
from tests.support.logs import leaves_of
from tests.support.notaries import (
    announcement,
    new_jti,
    notary_parts,
    running_notary,
    sealed,
)


def key_events(boot: Boot) -> list[dict[str, Any]]:
    assert boot.evidence.event_log is not None
    events: Any = boot.evidence.event_log.data
    return list(events)


class Counting:
    """A provider that counts quotes and can be told to misbehave."""

    def __init__(self, inner: QuoteProvider) -> None:
        self._inner = inner
        self.quotes = 0
        self.fault: Exception | None = None
        self.replay: bytes | None = None
        self.gate: threading.Event | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def quote(self, report_data: bytes) -> bytes:
        self.quotes += 1
        if self.gate is not None:
            self.gate.wait(60)
        if self.fault is not None:
            raise self.fault
        return self.replay or self._inner.quote(report_data)


async def test_quote_binds_the_boot_statement_and_rtmr3_the_keyset(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        evidence = notary.boot.evidence
        quote = parse_quote(evidence.quote)
        assert quote.body.report_data == evidence.statement.report_data
        assert evidence.event_log is not None
        events = evidence.event_log.parse()
        assert replay(events)[3] == quote.body.rtmrs[3]
        (only,) = key_events(notary.boot)
        assert only["keyset_digest"] == evidence.keyset.digest.hex
        assert only["n"] == 1


async def test_challenge_covers_the_durable_log_and_the_nonce(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        await sealed(notary)
        nonce = bytes(range(32))
        challenge = await notary.challenge(nonce)
        statement = parse_challenge_statement(parse_json(challenge.statement))
        quote = parse_quote(challenge.quote)
        assert quote.body.report_data == statement.report_data
        assert statement.boot_quote_digest == parse_quote(notary.boot.evidence.quote).digest
        assert statement.nonce_root == nonce_root([nonce])
        leaves = [leaf_hash(entry_of(record)) for record in leaves_of(boot_of(tmp_path))]
        assert statement.size >= 2
        assert statement.root.value == root_hash(leaves[: statement.size])


async def test_challenges_that_wait_together_share_one_quote(tmp_path: Path) -> None:
    parts = notary_parts(tmp_path)
    provider = Counting(parts.provider)
    async with running_notary(tmp_path, provider=provider) as notary:
        before = provider.quotes
        nonces = [bytes([n]) * 32 for n in range(40)]
        answers = await asyncio.gather(*(notary.challenge(nonce) for nonce in nonces))
        assert provider.quotes - before <= 2
        for nonce, answer in zip(nonces, answers, strict=True):
            statement = parse_challenge_statement(parse_json(answer.statement))
            verify_inclusion(
                leaf_hash=leaf_hash(nonce),
                index=answer.index,
                size=answer.count,
                path=answer.path,
                root=statement.nonce_root.value,
            )


async def test_quote_fault_fails_the_challenge_and_not_the_boot(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    async with running_notary(tmp_path, provider=provider) as notary:
        provider.fault = OSError(16, "busy")
        with pytest.raises(UnavailableError) as refusal:
            await notary.challenge(bytes(32))
        assert refusal.value.code == "quote_failed"
        provider.fault = None
        with pytest.raises(UnavailableError) as refusal:
            await notary.challenge(bytes(32))
        assert refusal.value.code == "quote_pause"
        assert notary.healthy
        await sealed(notary)


async def test_old_quote_is_not_taken_for_a_fresh_one(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    async with running_notary(tmp_path, provider=provider) as notary:
        provider.replay = notary.boot.evidence.quote
        with pytest.raises(UnavailableError) as refusal:
            await notary.challenge(bytes(32))
        assert refusal.value.code == "quote_failed"


async def test_hanging_quote_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    limits = NotaryLimits(quote_timeout=0.2, quote_interval=0.0)
    parts = notary_parts(tmp_path, provider=provider, limits=replace(limits, quote_timeout=20))
    notary = await LocalNotary.start(parts)
    notary._quotes.quoter._timeout = limits.quote_timeout
    provider.gate = threading.Event()
    for code in ("quote_timeout", "quote_busy"):
        with pytest.raises(UnavailableError) as refusal:
            await notary.challenge(bytes(32))
        assert refusal.value.code == code
    await sealed(notary)
    provider.gate.set()
    await notary.close()


async def test_too_many_waiting_challenges_are_refused(tmp_path: Path) -> None:
    limits = NotaryLimits(max_challenges=3, quote_interval=0.0)
    async with running_notary(tmp_path, limits=limits) as notary:
        asked = (notary.challenge(bytes([n]) * 32) for n in range(8))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, UnavailableError)]
        assert {answer.code for answer in refused} == {"challenges_busy"}
        assert len(answers) - len(refused) >= 3


async def test_nonce_of_another_length_is_refused(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        with pytest.raises(UsageError):
            await notary.challenge(bytes(31))


async def test_extension_of_rtmr3_while_running_ends_the_boot(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        provider = notary._parts.provider
        provider.extend_rtmr3(bytes(48), name="test", content=b"")
        with pytest.raises(NotaryUnavailable):
            await notary.challenge(bytes(32))
        assert (notary.healthy, notary.reason) == (False, "td_changed")
        with pytest.raises(NotaryUnavailable):
            notary.announce(announcement(new_jti()))


async def test_boot_does_not_start_when_rtmr3_was_extended_by_something_else(
    tmp_path: Path,
) -> None:
    parts = notary_parts(tmp_path)
    parts.provider.extend_rtmr3(bytes(48), name="test", content=b"")
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(parts)
    assert refusal.value.code == "rtmr3"


async def test_second_boot_of_one_td_continues_the_runtime_log(tmp_path: Path) -> None:
    parts = notary_parts(tmp_path)
    parts = replace(parts, plan=replace(parts.plan, runtime_log=tmp_path / "rtmr3.json"))
    for n in (1, 2):
        notary = await LocalNotary.start(parts)
        assert [event["n"] for event in key_events(notary.boot)] == list(range(1, n + 1))
        await notary.close()


async def test_second_boot_without_the_runtime_log_does_not_start(tmp_path: Path) -> None:
    parts = notary_parts(tmp_path)
    await (await LocalNotary.start(parts)).close()
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(parts)
    assert refusal.value.code == "rtmr3"


@pytest.mark.parametrize("content", [b"[]", b"nonsense", b'[{"n":1}]'])
async def test_runtime_log_that_does_not_account_for_rtmr3_stops_the_start(
    tmp_path: Path, content: bytes
) -> None:
    log = tmp_path / "rtmr3.json"
    parts = notary_parts(tmp_path)
    parts = replace(parts, plan=replace(parts.plan, runtime_log=log))
    await (await LocalNotary.start(parts)).close()
    log.write_bytes(content)
    with pytest.raises(UnavailableError):
        await LocalNotary.start(parts)


async def test_unquotable_platform_does_not_start(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    provider.fault = UnavailableError("none", code="device")
    with pytest.raises(UnavailableError):
        await LocalNotary.start(notary_parts(tmp_path, provider=provider))


async def test_platform_that_quotes_something_else_does_not_start(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    provider.replay = provider.quote(bytes(64))
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(notary_parts(tmp_path, provider=provider))
    assert refusal.value.code == "boot_quote"
