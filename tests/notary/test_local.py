"""The notary's promises: order, ownership and exactly one receipt."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError
from attestation.lineage.context import LineageContext
from attestation.receipt.claims import End
from attestation.receipt.commitments import verify_commitment
from attestation.receipt.outcome import ModelFacts
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.tdx.quote import parse_quote
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from gateway.notary.log.segments import Kind
from gateway.notary.parts import NotaryLimits
from tests.notary.support import boot_of, claims_of, found_by
from tests.support.logs import leaves_of, tokens_of
from tests.support.notaries import (
    ALICE,
    BOB,
    announcement,
    new_jti,
    outcome,
    quiet_notary,
    sealed,
)


async def test_receipt_verifies_against_the_keyset_of_the_boot(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path) as notary:
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


async def test_index_is_the_leaf_position_and_leaf_0_the_boot_statement(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        receipts = await asyncio.gather(*(sealed(notary) for _ in range(20)))
        statement = notary.boot.evidence.statement
    leaves, tokens = leaves_of(boot_of(tmp_path)), tokens_of(boot_of(tmp_path))
    assert leaves[0].kind is Kind.BOOT
    assert leaves[0].payload == statement.canonical
    assert sorted(receipt.index for receipt in receipts) == list(range(1, 21))
    for receipt in receipts:
        assert tokens[receipt.index - 1] == receipt.token
        assert claims_of(receipt.token).log.index == receipt.index


async def test_admission_numbers_follow_announcements_and_indices_seals(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        first, second = new_jti(), new_jti()
        notary.announce(announcement(first))
        notary.announce(announcement(second))
        late = await notary.seal(outcome(second))
        early = await notary.seal(outcome(first))
        assert [claims_of(r.token).log.admission for r in (early, late)] == [0, 1]
        assert [r.index for r in (early, late)] == [2, 1]


async def test_receipt_id_cannot_be_announced_twice(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))
        sealing = asyncio.create_task(notary.seal(outcome(jti)))
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))
        await sealing


async def test_receipt_id_of_a_durable_receipt_is_refused_under_every_key(tmp_path: Path) -> None:
    """A second receipt of that id would hand its owner the keys of the first."""
    async with quiet_notary(tmp_path) as notary:
        receipt = await sealed(notary, BOB)
        for sub in (ALICE, BOB):
            with pytest.raises(ValueError, match="twice"):
                notary.announce(announcement(receipt.jti, sub))
        assert (await found_by(notary, receipt.jti, BOB)).token == receipt.token
        assert (await sealed(notary, ALICE)).index == receipt.index + 1


async def test_receipt_id_of_an_abandoned_request_is_refused(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti, BOB))
        await notary.abandon(jti)
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))


async def test_receipt_id_announced_before_is_refused_as_such_while_the_boot_closes(
    tmp_path: Path,
) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti, BOB))
        notary._lifetime.closing = True
        with pytest.raises(ValueError, match="twice"):
            notary.announce(announcement(jti))
        with pytest.raises(NotaryUnavailable):
            notary.announce(announcement(new_jti()))
        notary._lifetime.closing = False


async def test_request_is_sealed_once(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        with pytest.raises(NotaryUnavailable):
            await notary.seal(outcome(jti))
        notary.announce(announcement(jti))
        await notary.seal(outcome(jti))
        with pytest.raises(NotaryUnavailable):
            await notary.seal(outcome(jti))
        assert notary.healthy
    assert len(leaves_of(boot_of(tmp_path))) == 2


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
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        found = await found_by(notary, jti, wait_seconds=0.01)
        assert found.state is ReceiptState.RUNNING


async def test_calls_of_a_task_are_numbered_and_chained_per_key(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
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
    async with quiet_notary(tmp_path, limits=NotaryLimits(max_tasks=1)) as notary:
        one, two = (LineageContext(txn=t, span="0" * 15 + "1") for t in ("one", "two"))
        await sealed(notary, lineage=one)
        await sealed(notary, lineage=two)
        again = await sealed(notary, lineage=one)
        assert claims_of(again.token).lineage.call == 0


async def test_parent_id_stands_for_the_callers_own_receipt_only(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        own, foreign = await sealed(notary), await sealed(notary, BOB)
        parents = (f"chatcmpl-{own.jti}", foreign.jti)
        lineage = LineageContext(txn="t", span="0" * 15 + "1", parents=parents)
        child = claims_of((await sealed(notary, lineage=lineage)).token).lineage
        assert child.parents[0].digest == own.digest
        assert child.parents[1].digest not in (own.digest, foreign.digest)


def _child(parent: str) -> LineageContext:
    return LineageContext(txn="t", span="0" * 15 + "1", parents=(parent,))


class _SlowIndex:
    """Holds look-ups of receipts up, in the threads that make them, until it is told to go on."""

    def __init__(self, notary: LocalNotary, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        index = notary._started.index
        get = index.get

        def slow(jti: bytes) -> Any:
            self.asked.set()
            assert self.go_on.wait(60)
            return get(jti)

        monkeypatch.setattr(index, "get", slow)

    async def is_asked(self) -> None:
        assert await asyncio.to_thread(self.asked.wait, 60)


async def test_slow_look_up_of_a_parent_holds_no_other_receipt_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet_notary(tmp_path) as notary:
        parent = await sealed(notary)
        index = _SlowIndex(notary, monkeypatch)
        waiting = asyncio.create_task(sealed(notary, lineage=_child(parent.jti)))
        await index.is_asked()
        other = await asyncio.wait_for(sealed(notary), 60)
        index.go_on.set()
        child = await waiting
        assert (parent.index, other.index, child.index) == (1, 2, 3)
        assert claims_of(child.token).lineage.parents[0].digest == parent.digest


async def test_request_cancelled_while_its_parent_is_looked_up_gets_its_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet_notary(tmp_path) as notary:
        parent = await sealed(notary)
        index = _SlowIndex(notary, monkeypatch)
        jti = new_jti()
        notary.announce(announcement(jti))
        waiting = asyncio.create_task(notary.seal(outcome(jti, lineage=_child(parent.jti))))
        await index.is_asked()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        index.go_on.set()
        await notary._sequencer.wait_sealed(jti, 10)
        found = await notary.find(jti, ALICE)
        assert found is not None
        assert found.token is not None
        assert claims_of(found.token).lineage.parents[0].digest == parent.digest


async def test_boot_that_ends_while_a_parent_is_looked_up_seals_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quiet_notary(tmp_path) as notary:
        parent = await sealed(notary)
        index = _SlowIndex(notary, monkeypatch)
        waiting = asyncio.create_task(sealed(notary, lineage=_child(parent.jti)))
        await index.is_asked()
        notary._lifetime.end("log_failed")
        index.go_on.set()
        with pytest.raises(NotaryUnavailable):
            await waiting
    assert len(tokens_of(boot_of(tmp_path))) == 1


async def test_look_up_of_a_parent_that_fails_costs_no_receipt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_jti: bytes) -> Any:
        raise RuntimeError

    async with quiet_notary(tmp_path) as notary:
        parent = await sealed(notary)
        monkeypatch.setattr(notary._started.index, "get", broken)
        child = claims_of((await sealed(notary, lineage=_child(parent.jti))).token).lineage
        assert child.parents[0].digest != parent.digest


async def test_counters_count(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        notary.count_unauthenticated()
        notary.count_unreceipted()
        await sealed(notary)
        text = notary._parts.metrics.render().decode()
        assert "attested_unauthenticated_total 1.0" in text
        assert "attested_refused_unreceipted_total 1.0" in text
        assert 'attested_receipts_total{end="complete",route="/v1/chat/completions"} 1.0' in text
        assert "attested_in_flight 0.0" in text
        assert "attested_log_size 2.0" in text


async def test_counts_are_added_at_once(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        notary.count_unauthenticated(1_000_000)
        notary.count_unauthenticated(0)
        notary.count_unreceipted(7)
        counts = notary._sequencer.counts()
        assert (counts.unauthenticated, counts.refused_unreceipted) == (1_000_000, 7)
        text = (await notary.metrics_text()).decode()
        assert "attested_unauthenticated_total 1e+06" in text
        assert "attested_refused_unreceipted_total 7.0" in text


async def test_cancelled_caller_does_not_lose_its_receipt(tmp_path: Path) -> None:
    async with quiet_notary(tmp_path) as notary:
        jti = new_jti()
        notary.announce(announcement(jti))
        task = asyncio.create_task(notary.seal(outcome(jti)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = await found_by(notary, jti, wait_seconds=30)
        assert found.state is ReceiptState.SEALED
