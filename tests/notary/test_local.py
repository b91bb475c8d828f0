"""The notary's promises: order, ownership, exactly one receipt, and what ends a boot."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import parse_json
from attestation.errors import EvidenceError, UnavailableError, UsageError
from attestation.lineage.context import LineageContext
from attestation.merkle.tree import leaf_hash, root_hash, verify_inclusion
from attestation.receipt.claims import End, ReceiptClaims
from attestation.receipt.commitments import verify_commitment
from attestation.receipt.outcome import ModelFacts
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.statement import nonce_root, parse_challenge_statement
from attestation.tdx.events import replay
from attestation.tdx.quote import parse_quote
from gateway.attester.base import QuoteProvider
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Boot, Found, ReceiptState
from gateway.notary.journal import Kind, log_entry, parse_records
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits
from tests.support.notaries import (
    ALICE,
    BOB,
    announcement,
    new_jti,
    notary_parts,
    outcome,
    running_notary,
    sealed,
)


def journal_of(folder: Path) -> Path:
    (path,) = (folder / "data").glob("*.journal")
    return path


def claims_of(token: str | None) -> ReceiptClaims:
    assert token is not None
    return parse_receipt(token).claims


async def found_by(
    notary: LocalNotary, name: str, sub: Digest = ALICE, wait_seconds: float = 0.0
) -> Found:
    found = await notary.find(name, sub, wait_seconds=wait_seconds)
    assert found is not None
    return found


def key_events(boot: Boot) -> list[dict[str, Any]]:
    assert boot.evidence.event_log is not None
    events: Any = boot.evidence.event_log.data
    return list(events)


async def test_receipt_verifies_against_the_keyset_of_the_boot(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        evidence = notary.boot.evidence
        parsed = parse_receipt(receipt.token)
        verify_receipt_signature(parsed, evidence.keyset.receipt_key)
        assert parsed.digest == receipt.digest
        assert parsed.claims.keyset_digest == evidence.keyset.digest == notary.boot.keyset_digest
        assert parsed.claims.quote_digest == parse_quote(evidence.quote).digest
        assert parsed.claims.bootseed == evidence.statement.bootseed
        assert parsed.claims.log.origin == evidence.statement.log_origin
        assert parsed.claims.debug == "disabled"


async def test_openings_open_exactly_the_bodies(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        request = claims_of(receipt.token).request
        key = receipt.openings.keys["req"]
        assert request.commitment is not None
        verify_commitment(request.commitment, key, Digest.of(b"request"), what="the body")
        with pytest.raises(EvidenceError):
            verify_commitment(request.commitment, key, Digest.of(b"Request"), what="the body")
        with pytest.raises(EvidenceError):
            verify_commitment(
                request.commitment, receipt.openings.keys["res"], Digest.of(b"request"), what="b"
            )


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


async def test_index_is_the_leaf_position_and_leaf_0_the_boot_statement(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipts = await asyncio.gather(*(sealed(notary) for _ in range(20)))
        statement = notary.boot.evidence.statement
    records = list(parse_records(journal_of(tmp_path).read_bytes()))
    assert records[0].kind is Kind.BOOT
    assert records[0].payload == statement.canonical
    assert sorted(receipt.index for receipt in receipts) == list(range(1, 21))
    for receipt in receipts:
        assert records[receipt.index].payload.decode() == receipt.token
        assert claims_of(receipt.token).log.index == receipt.index


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
        records = list(parse_records(journal_of(tmp_path).read_bytes()))
        digests = [
            Digest.of(records[0].payload),
            Digest.of(records[1].payload.rpartition(b".")[0]),
        ]
        leaves = [
            leaf_hash(log_entry(record.kind, digest))
            for record, digest in zip(records, digests, strict=True)
        ]
        assert (statement.size, statement.root.value) == (2, root_hash(leaves))


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
            self.gate.wait(20)
        if self.fault is not None:
            raise self.fault
        return self.replay or self._inner.quote(report_data)


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
    notary._desk._quoter._timeout = limits.quote_timeout
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
        provider.extend_rtmr3(bytes(48))
        with pytest.raises(NotaryUnavailable):
            await notary.challenge(bytes(32))
        assert (notary.healthy, notary.reason) == (False, "td_changed")
        with pytest.raises(NotaryUnavailable):
            notary.announce(announcement(new_jti()))


async def test_boot_does_not_start_when_rtmr3_was_extended_by_something_else(
    tmp_path: Path,
) -> None:
    parts = notary_parts(tmp_path)
    parts.provider.extend_rtmr3(bytes(48))
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


async def test_admission_numbers_follow_announcements_and_indices_seals(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        first, second = new_jti(), new_jti()
        notary.announce(announcement(first))
        notary.announce(announcement(second))
        late = await notary.seal(outcome(second))
        early = await notary.seal(outcome(first))
        assert [claims_of(r.token).log.admission for r in (early, late)] == [0, 1]
        assert [r.index for r in (early, late)] == [2, 1]


async def test_receipt_id_cannot_be_announced_twice(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))
        await notary.seal(outcome(jti))
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))


async def test_request_is_sealed_once(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        with pytest.raises(NotaryUnavailable):
            await notary.seal(outcome(jti))
        notary.announce(announcement(jti))
        await notary.seal(outcome(jti))
        with pytest.raises(NotaryUnavailable):
            await notary.seal(outcome(jti))
        assert notary.healthy
    assert len(list(parse_records(journal_of(tmp_path).read_bytes()))) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": BOB},
        {"path": "/v1/completions"},
        {"grant_digest": Digest.of(b"other")},
        {"method": "GET"},
    ],
)
async def test_outcome_that_contradicts_its_announcement_becomes_a_gateway_failure(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        with pytest.raises(NotaryUnavailable):
            await notary.seal(replace(outcome(jti), **changes))
        found = await found_by(notary, jti)
        claims = claims_of(found.token)
        assert claims.response.end is End.GATEWAY_FAILURE
        assert claims.subject == ALICE
        assert notary.healthy


async def test_oversize_outcome_becomes_a_gateway_failure_and_the_boot_goes_on(
    tmp_path: Path,
) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        big = replace(outcome(jti), model=ModelFacts(served="x" * 5000))
        with pytest.raises(NotaryUnavailable):
            await notary.seal(big)
        found = await found_by(notary, jti)
        assert claims_of(found.token).response.end is End.GATEWAY_FAILURE
        receipt = await sealed(notary)
        assert receipt.index == 2


async def test_receipt_is_found_by_its_owner_only(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        for name in (receipt.jti, f"chatcmpl-{receipt.jti}", f"cmpl-{receipt.jti}-0"):
            found = await found_by(notary, name)
            assert (found.state, found.token) == (ReceiptState.SEALED, receipt.token)
            assert found.openings is not None
            assert found.openings.to_json() == receipt.openings.to_json()
            assert await notary.find(name, BOB) is None
        for name in (new_jti(), "", "x" * 500, receipt.jti[:-1], receipt.jti.upper()):
            assert await notary.find(name, ALICE) is None


async def test_running_request_is_found_by_its_owner_only_and_can_be_waited_for(
    tmp_path: Path,
) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        found = await found_by(notary, jti)
        assert (found.state, found.token, found.openings) == (ReceiptState.RUNNING, None, None)
        assert await notary.find(jti, BOB) is None
        waiting = asyncio.create_task(found_by(notary, jti, wait_seconds=30))
        await asyncio.sleep(0)
        await notary.seal(outcome(jti))
        assert (await waiting).state is ReceiptState.SEALED


async def test_waiting_ends_with_the_honest_state(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        found = await found_by(notary, jti, wait_seconds=0.01)
        assert found.state is ReceiptState.RUNNING


async def test_retention_forgets_the_oldest_receipts_only(tmp_path: Path) -> None:
    limits = NotaryLimits(retain_receipts=2)
    async with running_notary(tmp_path, limits=limits) as notary:
        receipts = [await sealed(notary) for _ in range(3)]
        found = [await notary.find(receipt.jti, ALICE) for receipt in receipts]
        assert [item is not None for item in found] == [False, True, True]


async def test_calls_of_a_task_are_numbered_and_chained_per_key(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        lineage = LineageContext(txn="task-1", span="0" * 15 + "1")
        first = await sealed(notary, lineage=lineage)
        second = await sealed(notary, lineage=lineage)
        foreign = await sealed(notary, BOB, lineage=lineage)
        lines = [claims_of(item.token).lineage for item in (first, second, foreign)]
        assert [(line.call, line.previous) for line in lines] == [
            (0, None),
            (1, first.digest),
            (0, None),
        ]


async def test_forgotten_task_starts_again_at_its_first_call(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=NotaryLimits(max_tasks=1)) as notary:
        one, two = (LineageContext(txn=t, span="0" * 15 + "1") for t in ("one", "two"))
        await sealed(notary, lineage=one)
        await sealed(notary, lineage=two)
        again = await sealed(notary, lineage=one)
        assert claims_of(again.token).lineage.call == 0


async def test_parent_id_stands_for_the_callers_own_receipt_only(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        own, foreign = await sealed(notary), await sealed(notary, BOB)
        parents = (f"chatcmpl-{own.jti}", foreign.jti)
        lineage = LineageContext(txn="t", span="0" * 15 + "1", parents=parents)
        child = claims_of((await sealed(notary, lineage=lineage)).token).lineage
        assert child.parents[0].digest == own.digest
        assert child.parents[1].digest not in (own.digest, foreign.digest)


async def test_what_is_announced_at_shutdown_gets_a_gateway_failure(tmp_path: Path) -> None:
    ended: list[str] = []
    notary = await LocalNotary.start(notary_parts(tmp_path, on_end=ended.append))
    jtis = [new_jti() for _ in range(3)]
    for jti in jtis:
        notary.announce(announcement(jti))
    await notary.seal(outcome(jtis[1]))
    await notary.close()
    records = list(parse_records(journal_of(tmp_path).read_bytes()))[1:]
    ends = {
        claims_of(record.payload.decode()).jti: claims_of(record.payload.decode()).response
        for record in records
    }
    assert {jti: response.end for jti, response in ends.items()} == {
        jtis[0]: End.GATEWAY_FAILURE,
        jtis[1]: End.COMPLETE,
        jtis[2]: End.GATEWAY_FAILURE,
    }
    assert ends[jtis[0]].commitment is None
    assert ended == ["closed"]


async def test_closed_notary_answers_nothing(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    await notary.close()
    await notary.close()
    for call in (
        notary.seal(outcome(new_jti())),
        notary.find(new_jti(), ALICE),
        notary.challenge(bytes(32)),
    ):
        with pytest.raises(NotaryUnavailable):
            await call
    with pytest.raises(NotaryUnavailable):
        notary.announce(announcement(new_jti()))


async def test_boot_ends_when_its_keyset_does(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, wall=lambda: now[0])
    notary = await LocalNotary.start(parts)
    notary.announce(announcement(new_jti()))
    now[0] = parts.plan.not_after
    with pytest.raises(NotaryUnavailable):
        notary.announce(announcement(new_jti()))
    assert notary.reason == "keyset_expired"
    await notary.close()


async def test_no_receipt_is_issued_after_the_keyset_ended(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, wall=lambda: now[0])
    notary = await LocalNotary.start(parts)
    jtis = [new_jti(), new_jti()]
    for jti in jtis:
        notary.announce(announcement(jti))
    now[0] = parts.plan.not_after
    with pytest.raises(NotaryUnavailable):
        await notary.seal(outcome(jtis[0]))
    assert notary.reason == "keyset_expired"
    await notary.close()
    assert len(list(parse_records(journal_of(tmp_path).read_bytes()))) == 1


async def test_notary_that_closes_after_its_keyset_ended_issues_nothing(tmp_path: Path) -> None:
    now = [float(int(time.time()))]
    parts = notary_parts(tmp_path, wall=lambda: now[0])
    notary = await LocalNotary.start(parts)
    notary.announce(announcement(new_jti()))
    now[0] = parts.plan.not_after
    await notary.close()
    assert len(list(parse_records(journal_of(tmp_path).read_bytes()))) == 1


async def test_restart_is_a_new_boot_and_leaves_old_files_as_they_were(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        old_boot = notary.boot
    data = tmp_path / "data"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in data.iterdir()}
    async with running_notary(tmp_path) as notary:
        assert notary.boot.keyset_digest != old_boot.keyset_digest
        assert notary.boot.log_origin != old_boot.log_origin
        assert await notary.find(receipt.jti, ALICE) is None
        await sealed(notary)
    for name, state in before.items():
        assert ((data / name).read_bytes(), (data / name).stat().st_mtime_ns) == state
    assert len(list(data.iterdir())) == 2 * len(before)


async def test_no_secret_of_the_boot_is_in_the_data_folder(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        drawn = notary._ledger._boot.drawn
        keys = [key.private_bytes_raw() for key in (drawn.receipt_key, drawn.log_key)]
        secrets_drawn = [*keys, notary._secret, *receipt.openings.keys.values()]
        data = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
        for secret in secrets_drawn:
            assert secret not in data
            assert secret.hex().encode() not in data
            assert base64url.encode(secret).encode() not in data
        assert b"request" not in data.replace(b'"purpose"', b"")


async def test_data_folder_and_files_are_private(tmp_path: Path) -> None:
    async with running_notary(tmp_path):
        data = tmp_path / "data"
        assert data.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in data.iterdir()} == {0o600}


async def test_data_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with pytest.raises(UnavailableError) as refusal:
        await LocalNotary.start(notary_parts(tmp_path))
    assert "chmod 700" in str(refusal.value)


async def test_counters_count(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        notary.count_unauthenticated()
        notary.count_unreceipted()
        await sealed(notary)
        text = notary._parts.metrics.render().decode()
        assert "attested_unauthenticated_total 1.0" in text
        assert "attested_refused_unreceipted_total 1.0" in text
        assert 'attested_receipts_total{end="complete",route="/v1/chat/completions"} 1.0' in text
        assert "attested_in_flight 0.0" in text
        assert "attested_log_size 2.0" in text


async def test_cancelled_caller_does_not_lose_its_receipt(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        task = asyncio.create_task(notary.seal(outcome(jti)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = await found_by(notary, jti, wait_seconds=30)
        assert found.state is ReceiptState.SEALED
