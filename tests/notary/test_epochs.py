"""Receipts of a running notary: anchored by quotes over the log, proved, and waited for."""

from __future__ import annotations

import asyncio
import secrets
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.errors import UnavailableError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash, root_hash
from attestation.receipt.text import MAX_INTEGER
from attestation.result import Verdict
from attestation.statement import grants_digest
from attestation.tdx.quote import parse_quote
from gateway.access.principal import Grant
from gateway.attester.base import open_provider
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import ReceiptState
from gateway.notary.local import LocalNotary
from gateway.notary.log.leaves import entry_of
from gateway.notary.log.segments import Kind
from gateway.notary.parts import NotaryLimits
from gateway.notary.quotes.epochs import Pacing
from tests.notary.audits import all_epochs, audited, bundle_of
from tests.notary.support import boot_of, claims_of, found_by
from tests.notary.test_quotes import Counting
from tests.support.disks import copy_while_running
from tests.support.logs import boot_folders, leaves_of, records_of
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

FAST = NotaryLimits(
    quote_interval=0.0,
    checkpoint_seconds=0.05,
    pacing=Pacing(seconds=0.05, forced_seconds=0.02),
    export_seconds=0.05,
)


async def test_receipt_is_anchored_and_its_bundle_accepted(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        receipt = await sealed(notary)
        found = await found_by(notary, receipt.jti, wait_seconds=30)
        assert found.state is ReceiptState.ANCHORED
        assert found.earlier is None
        result = audited(notary.boot, bundle_of(notary.boot, [found]))
        assert result.verdict is Verdict.SIMULATED, [c for c in result.checks if c.fault]


async def test_whole_boot_is_accepted_as_complete(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        receipts = []
        for _ in range(4):
            receipts += await asyncio.gather(*(sealed(notary) for _ in range(5)))
            await found_by(notary, receipts[-1].jti, wait_seconds=30)
        founds = [await found_by(notary, one.jti, wait_seconds=30) for one in receipts]
        epochs = await all_epochs(notary)
        assert len(epochs) >= 4
        result = audited(notary.boot, bundle_of(notary.boot, founds, epochs), complete=True)
        assert result.verdict is Verdict.SIMULATED, [c for c in result.checks if c.fault]
        left_out = bundle_of(notary.boot, founds[1:], epochs)
        assert audited(notary.boot, left_out, complete=True).verdict is not Verdict.SIMULATED


async def test_receipt_is_anchored_by_the_first_epoch_that_covers_it(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        receipts = []
        for _ in range(5):
            receipts.append(await sealed(notary))
            await found_by(notary, receipts[-1].jti, wait_seconds=30)
        epochs = await all_epochs(notary)
        sizes = [epoch.statement.size for epoch in epochs]
        assert sizes == sorted(set(sizes))
        for receipt in receipts:
            found = await found_by(notary, receipt.jti)
            first = next(epoch for epoch in epochs if epoch.statement.size > receipt.index)
            assert found.epoch == first
            assert found.proof is not None
            proof = parse_tlog_proof(found.proof)
            assert proof.note == first.checkpoint
            verify_tlog_proof(
                proof,
                leaf_hash=leaf_hash(b"\x01" + receipt.digest.value),
                vkeys=[notary.boot.evidence.keyset.log_key],
                origin=notary.boot.log_origin,
            )


async def test_epochs_are_chained_and_stand_in_the_log_as_leaves(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        for _ in range(3):
            await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        epochs, boot = await all_epochs(notary), notary.boot.evidence
        folder = notary.folder
    before = parse_quote(boot.quote).digest
    for number, epoch in enumerate(epochs):
        assert epoch.statement.epoch == number
        assert epoch.statement.prev_quote_digest == before
        before = parse_quote(epoch.quote).digest
    leaves = leaves_of(folder)
    entries = [entry_of(leaf) for leaf in leaves]
    logged = [entry[1:] for entry in entries if entry[0] == Kind.EPOCH]
    assert [epoch.statement.digest.value for epoch in epochs] == logged[: len(epochs)]
    for epoch in epochs:
        size = epoch.statement.size
        assert epoch.statement.root.value == root_hash([leaf_hash(one) for one in entries[:size]])
        assert entries.index(b"\x02" + epoch.statement.digest.value) >= size


async def test_idle_log_gets_no_epoch_of_its_own(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        await asyncio.sleep(0.3)  # several times the epochs' interval
        assert len(await all_epochs(notary)) == 1
        folder = notary.folder
    assert [leaf.kind for leaf in leaves_of(folder)] == [Kind.BOOT, Kind.RECEIPT, Kind.EPOCH]


async def test_absent_epochs_are_none(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        assert await notary.epoch(None) is None
        assert await notary.epoch(0) is None
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        assert await notary.epoch(0) == await notary.epoch(None)
        for number in (1, -1, 10**9):
            assert await notary.epoch(number) is None


async def test_last_epoch_covers_what_close_itself_sealed(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    await sealed(notary)
    left = new_jti()
    notary.announce(announcement(left))
    await notary.close()
    async with running_notary(tmp_path) as notary:
        found = await found_by(notary, left)
        assert found.state is ReceiptState.ANCHORED
        assert found.epoch is not None
        assert found.epoch.statement.in_flight == 0
        assert found.epoch.statement.completed == found.epoch.statement.admitted == 2


async def test_last_checkpoint_covers_the_last_epoch_and_is_exported(tmp_path: Path) -> None:
    notary = await LocalNotary.start(notary_parts(tmp_path))
    await sealed(notary)
    await notary.close()
    folder, keyset = boot_of(tmp_path), notary.boot.evidence.keyset
    note = (folder / "log" / "checkpoint").read_text()
    verify_note(parse_note(note), [keyset.log_key])
    checkpoint = parse_checkpoint(parse_note(note).text)
    entries = [entry_of(leaf) for leaf in leaves_of(folder)]
    assert checkpoint.size == len(entries) == 3
    assert checkpoint.root == root_hash([leaf_hash(entry) for entry in entries])
    assert records_of(folder)[-1].payload.decode() == note


async def test_first_checkpoint_is_there_before_any_request(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        note = await notary.read_log("checkpoint")
        assert note is not None
        checkpoint = parse_checkpoint(parse_note(note).text)
        statement = notary.boot.evidence.statement
        assert (checkpoint.origin, checkpoint.size) == (statement.log_origin, 1)
        assert checkpoint.root == leaf_hash(b"\x00" + statement.digest.value)


async def test_log_resources_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        async with asyncio.timeout(60):
            while True:
                note = await notary.read_log("checkpoint")
                size = parse_checkpoint(parse_note(note or b"").text).size
                if size == 3:
                    break
                await asyncio.sleep(0.01)
        tile = await notary.read_log("tile/0/000.p/3")
        bundle = await notary.read_log("tile/entries/000.p/3")
        assert tile is not None
        assert bundle is not None
        entries = [bundle[at + 2 : at + 35] for at in range(0, 105, 35)]
        assert tile == b"".join(leaf_hash(entry) for entry in entries)
        for path in ("tile/0/000.p/4", "tile/0/000", "tile/1/000", "boot.json", "", "../boot.json"):
            assert await notary.read_log(path) is None


async def test_failing_quotes_leave_receipts_sealed_and_the_boot_goes_on(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    limits = replace(FAST, closing_seconds=0.0)
    async with running_notary(tmp_path, provider=provider, limits=limits) as notary:
        provider.fault = OSError(16, "busy")
        receipt = await sealed(notary)
        async with asyncio.timeout(60):
            while b'attested_epochs_total{result="quote_failed"}' not in (  # noqa: ASYNC110
                await notary.metrics_text()
            ):
                await asyncio.sleep(0.01)
        found = await found_by(notary, receipt.jti)
        assert (found.state, found.proof, found.epoch) == (ReceiptState.SEALED, None, None)
        assert notary.healthy


async def test_hanging_quote_blocks_no_request(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    limits = replace(FAST, closing_seconds=0.0)
    async with running_notary(tmp_path, provider=provider, limits=limits) as notary:
        provider.gate = threading.Event()
        receipts = await asyncio.wait_for(asyncio.gather(*(sealed(notary) for _ in range(20))), 60)
        async with asyncio.timeout(60):
            while provider.quotes < 2:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.01)
        for receipt in receipts:
            assert (await found_by(notary, receipt.jti)).state is ReceiptState.SEALED
        provider.gate.set()
        found = await found_by(notary, receipts[-1].jti, wait_seconds=30)
        assert found.state is ReceiptState.ANCHORED


async def test_replayed_quote_anchors_nothing(tmp_path: Path) -> None:
    provider = Counting(notary_parts(tmp_path).provider)
    limits = replace(FAST, closing_seconds=0.0)
    async with running_notary(tmp_path, provider=provider, limits=limits) as notary:
        provider.replay = notary.boot.evidence.quote
        receipt = await sealed(notary)
        found = await found_by(notary, receipt.jti, wait_seconds=0.2)
        assert found.state is ReceiptState.SEALED
        assert await notary.epoch(None) is None
        assert notary.healthy


async def test_quote_from_another_trust_domain_ends_the_boot(tmp_path: Path) -> None:
    ended: list[str] = []
    parts = notary_parts(tmp_path, on_end=ended.append)
    other = open_provider("simulated:")
    provider = Counting(parts.provider)
    async with running_notary(tmp_path, provider=provider, on_end=ended.append) as notary:
        provider._inner = other
        receipt = await sealed(notary)
        with pytest.raises(NotaryUnavailable):
            await notary.find(receipt.jti, ALICE, wait_seconds=30)
        assert ended == ["td_changed"]
        with pytest.raises(NotaryUnavailable):
            notary.announce(announcement(new_jti()))
        folder = notary.folder
    assert Kind.EPOCH not in {leaf.kind for leaf in leaves_of(folder)}


async def test_rotten_tile_gives_no_proof_at_all(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        receipts = [await sealed(notary) for _ in range(3)]
        await found_by(notary, receipts[-1].jti, wait_seconds=30)
        tile = notary._started.tree._fresh[0, 0]
        tile[5] ^= 1
        with pytest.raises(UnavailableError) as refusal:
            await notary.find(receipts[-1].jti, ALICE)
        assert refusal.value.code == "log_unreadable"
        tile[5] ^= 1
        assert (await found_by(notary, receipts[-1].jti)).state is ReceiptState.ANCHORED


async def test_boot_that_follows_names_the_last_checkpoint_of_the_one_before(
    tmp_path: Path,
) -> None:
    async with running_notary(tmp_path) as notary:
        await sealed(notary)
        assert notary.boot.evidence.statement.prev is None
        old, folder = notary.boot, notary.folder
    last = (folder / "log" / "checkpoint").read_text()
    async with running_notary(tmp_path) as notary:
        prev = notary.boot.evidence.statement.prev
        assert prev is not None
        assert prev.checkpoint == last
        assert prev.quote_digest == parse_quote(old.evidence.quote).digest


async def test_receipt_of_an_ended_boot_is_found_with_proof_and_evidence_but_without_openings(
    tmp_path: Path,
) -> None:
    async with running_notary(tmp_path) as notary:
        receipt, old = await sealed(notary), notary.boot
    async with running_notary(tmp_path) as notary:
        found = await found_by(notary, f"chatcmpl-{receipt.jti}", wait_seconds=30)
        assert (found.state, found.openings) == (ReceiptState.ANCHORED, None)
        assert found.token == receipt.token
        assert found.earlier is not None
        assert found.earlier.boots[0].statement == old.evidence.statement
        assert await notary.find(receipt.jti, BOB) is None
        bundle = bundle_of(old, [found])
        result = audited(old, replace(bundle, boots=found.earlier.boots))
        assert not [check for check in result.checks if check.fault is Verdict.REJECTED]


async def test_receipt_that_no_epoch_covered_when_the_power_went_stays_unanchored(
    tmp_path: Path,
) -> None:
    provider = open_provider("simulated:?failure_rate=1")
    limits = replace(FAST, closing_seconds=0.0)
    async with running_notary(tmp_path, provider=provider, limits=limits) as notary:
        receipt = await sealed(notary)
        copy_while_running(tmp_path / "data", tmp_path / "later" / "data")
        (tmp_path / "later").chmod(0o700)
    async with running_notary(tmp_path / "later") as notary:
        found = await found_by(notary, receipt.jti, wait_seconds=30)
        assert (found.state, found.proof) == (ReceiptState.UNANCHORED_FINAL, None)
        assert found.token == receipt.token


async def test_two_notaries_cannot_share_a_data_folder(tmp_path: Path) -> None:
    async with running_notary(tmp_path):
        with pytest.raises(UnavailableError) as refusal:
            await LocalNotary.start(notary_parts(tmp_path))
        assert refusal.value.code == "data_dir"
    await (await LocalNotary.start(notary_parts(tmp_path))).close()
    assert len(boot_folders(tmp_path / "data")) == 2


async def test_epoch_states_the_grants_of_the_receipts_below_it(tmp_path: Path) -> None:
    grants = [Grant(models=(name,)).digest for name in ("a", "b")]
    async with running_notary(tmp_path, limits=FAST) as notary:
        for grant in (*grants, grants[0]):
            jti = new_jti()
            notary.announce(announcement(jti, grant_digest=grant))
            await notary.seal(outcome(jti, grant_digest=grant))
            await found_by(notary, jti, wait_seconds=30)
        epochs = await all_epochs(notary)
    assert epochs[0].statement.grants_digest == grants_digest(grants[:1])
    assert epochs[-1].statement.grants_digest == grants_digest(grants)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(["seal", "leave", "stranger", "flood", "tick"]), max_size=60))
def test_counters_agree_with_the_log_whatever_happens_at_once(
    tmp_path: Path, events: list[str]
) -> None:
    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    asyncio.run(_drive(folder, events))


async def _drive(folder: Path, events: list[str]) -> None:
    notary = await LocalNotary.start(notary_parts(folder, limits=FAST))
    tasks: list[asyncio.Task[object]] = []
    for event in events:
        if event == "seal":
            tasks.append(asyncio.create_task(sealed(notary)))
        elif event == "leave":
            notary.announce(announcement(new_jti()))
        elif event == "stranger":
            notary.count_unauthenticated()
        elif event == "flood":
            notary.count_unreceipted()
        else:
            await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    epochs = await all_epochs(notary)
    await notary.close()
    leaves = leaves_of(boot_folders(folder / "data")[-1])
    kinds = [leaf.kind for leaf in leaves]
    for statement in (epoch.statement for epoch in epochs):
        assert statement.completed == kinds[: statement.size].count(Kind.RECEIPT)
        assert statement.admitted == statement.completed + statement.in_flight
        assert statement.in_flight >= 0
    receipts = events.count("seal") + events.count("leave")
    assert kinds.count(Kind.RECEIPT) == receipts
    if receipts:
        # What close sealed is covered by the last epoch, whose counters are the final ones.
        assert kinds[-1] is Kind.EPOCH
    admissions = sorted(
        claims_of(leaf.payload[48:].decode()).log.admission
        for leaf in leaves
        if leaf.kind is Kind.RECEIPT
    )
    assert admissions == list(range(receipts))


async def test_counters_stop_at_the_highest_number_that_an_epoch_can_state(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        for _ in range(2):
            notary.count_unauthenticated(MAX_INTEGER)
            notary.count_unreceipted(MAX_INTEGER - 1)
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        epochs = await all_epochs(notary)
    statement = epochs[-1].statement
    assert (statement.unauthenticated, statement.refused_unreceipted) == (MAX_INTEGER, MAX_INTEGER)


async def test_metrics_tell_of_epochs_quotes_and_checkpoints(tmp_path: Path) -> None:
    async with running_notary(tmp_path, limits=FAST) as notary:
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=30)
        text = (await notary.metrics_text()).decode()
        assert 'attested_epochs_total{result="anchored"} 1.0' in text
        assert "attested_epoch_leaves_sum 2.0" in text
        assert "attested_quote_seconds_count 1.0" in text
        assert "attested_epoch_age_seconds 0.0" in text
        checkpoints = next(
            line for line in text.splitlines() if line.startswith("attested_checkpoints_total")
        )
        assert float(checkpoints.split()[1]) >= 2


async def test_epoch_failures_are_events_without_text(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, object]]] = []
    provider = Counting(notary_parts(tmp_path).provider)
    limits = replace(FAST, closing_seconds=0.0)

    def emit(event: str, **fields: object) -> None:
        told.append((event, fields))

    async with running_notary(tmp_path, provider=provider, limits=limits, emit=emit) as notary:
        provider.fault = UnavailableError("SECRET", code="device")
        await found_by(notary, (await sealed(notary)).jti, wait_seconds=0.1)
    assert told[0] == ("epoch.failed", {"reason": "quote_failed"})


async def test_survey_of_the_boot_before_is_reported_and_counted(tmp_path: Path) -> None:
    async with running_notary(tmp_path) as notary:
        await sealed(notary)
        name = notary.folder.name
    told: list[tuple[str, dict[str, object]]] = []

    def emit(event: str, **fields: object) -> None:
        told.append((event, fields))

    async with running_notary(tmp_path, emit=emit) as notary:
        async with asyncio.timeout(60):
            while len(told) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        text = (await notary.metrics_text()).decode()
    assert [(event, fields["status"], fields["depth"]) for event, fields in told] == [
        ("boot.surveyed", "whole", "tail"),
        ("boot.surveyed", "whole", "whole"),
    ]
    assert {fields["boot"] for _, fields in told} == {name}
    assert 'attested_earlier_boots{status="whole"} 1.0' in text
