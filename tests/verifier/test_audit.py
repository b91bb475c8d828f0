"""Range audits: the chain of epochs, completeness, and what is said about what is missing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.verifier import audit
from attestation.verifier.epochs import QuotedEpoch
from attestation.verifier.equivocation import Sealed, check_equivocation
from attestation.verifier.ledger import Ledger
from attestation.verifier.words import gaps, named_spans
from tests.support.bundles import Gateway, failed, open_checks
from tests.support.epochs import COMPLETE, EpochLog, continued, together

LOOSE = "require_anchored = false"


def history(rounds: int = 3, *, each: int = 2, flying: int = 0) -> EpochLog:
    log = EpochLog(Gateway())
    log.announce(flying)
    for _ in range(rounds):
        log.serve(each)
        log.quote_epoch()
    return log


HONEST = history()


def about(result: AttestationResult, subject: str) -> Check:
    """The EPOCH-CHAIN check on the epochs, or on the log, of the one boot there is."""
    (check,) = [c for c in result.checks if c.id == "EPOCH-CHAIN" and c.subject.startswith(subject)]
    return check


def audited(made: EpochLog = HONEST, **parts: Any) -> AttestationResult:
    return made.verify(**{"log": LOOSE, "contents": {}, **parts})


# The chain


def test_epochs_from_the_first_on_are_an_unbroken_chain() -> None:
    check = about(HONEST.verify(), "epochs of boot ")
    assert check.status is Status.PASS
    assert check.reason == "unbroken from the boot's quote to epoch 2"


@pytest.mark.parametrize(
    ("kept", "named"), [((1,), "0"), ((0, 2), "1"), ((2,), "0-1"), ((1, 2), "0")]
)
def test_gap_in_the_chain_is_named_and_no_pass(kept: tuple[int, ...], named: str) -> None:
    epochs = [HONEST.epochs[number] for number in kept]
    check = about(audited(epochs=epochs), "epochs of boot ")
    assert check.status is Status.SKIP
    assert check.reason.endswith(f"missing: {named}")
    assert "/v1/log/epoch/" in check.hint


def test_gap_is_open_only_if_the_policy_asks_for_the_chain() -> None:
    epochs = HONEST.epochs[1:]
    assert audited(epochs=epochs).verdict is Verdict.SIMULATED
    policy = HONEST.policy(LOOSE, more='[require]\nchecks = ["EPOCH-CHAIN"]')
    result = audited(epochs=epochs, policy=policy)
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) == {"EPOCH-CHAIN"}


def test_two_epochs_of_one_number_leave_the_chain_to_equivocation() -> None:
    log = history()
    other = log.evidence(epoch=2, prev_quote_digest=Digest.of(b"x"))
    result = audited(log, epochs=[*log.epochs, other])
    assert failed(result) == {"EQUIVOCATION"}
    assert about(result, "epochs of boot ").status is Status.SKIP


@pytest.mark.parametrize("counter", ["unauthenticated", "refused_unreceipted"])
def test_counter_that_falls_over_a_gap_is_rejected_too(counter: str) -> None:
    log = EpochLog(Gateway())
    for value in (5, 5, 4):
        log.serve()
        log.quote_epoch(**{counter: value})
    result = audited(log, epochs=[log.epochs[0], log.epochs[2]])
    assert failed(result) == {"EPOCH-CHAIN"}
    check = about(result, "epochs of boot ")
    assert (check.expected, check.observed) == (f"{counter} at least 5", f"{counter} 4")


def test_as_many_new_receipts_as_new_leaves_is_the_most_there_can_be() -> None:
    log = EpochLog(Gateway())
    log.serve(3)
    log.quote_epoch(completed=1, in_flight=2)
    log.serve()
    log.quote_epoch(completed=3, in_flight=1)
    result = audited(log, receipts=[])
    assert about(result, "epochs of boot ").status is Status.PASS
    log.epochs[1] = log.evidence(
        replace(log.epochs[1].statement, completed=4, in_flight=0), note=log.epochs[1].checkpoint
    )
    check = about(audited(log, receipts=[]), "epochs of boot ")
    assert check.status is Status.FAIL
    assert (check.expected, check.observed) == ("at most 2 since epoch 0", "3")


# Completeness


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("each", [1, 3])
def test_file_with_every_receipt_is_complete(rounds: int, each: int) -> None:
    log = history(rounds, each=each)
    result = log.verify(log=COMPLETE)
    assert result.verdict is Verdict.SIMULATED
    check = about(result, "log of boot ")
    assert check.status is Status.PASS
    assert check.reason.startswith(
        f"complete: every receipt below size {rounds * (each + 1)} is in the file"
    )
    assert not any("completeness" in note for note in result.not_proved)
    assert any("newest quoted state" in note for note in result.not_proved)


def test_requests_still_in_flight_are_named_by_their_number() -> None:
    log = EpochLog(Gateway())
    log.serve()
    log.announce(2)
    log.serve()
    log.announce()
    log.quote_epoch()
    reason = about(log.verify(), "log of boot ").reason
    assert reason.endswith("5 requests were admitted, 3 still in flight then: admissions 1-2, 4")


def test_receipts_after_the_last_epoch_are_counted_apart() -> None:
    log = history()
    log.serve(2)
    check = about(audited(log, log=COMPLETE + "\n" + LOOSE), "log of boot ")
    assert check.status is Status.PASS
    assert check.reason.endswith("; 2 receipts came later and are not covered")


@pytest.mark.parametrize(
    ("dropped", "named"),
    [
        ({1}, "1 of 6 receipts is not in the file, among leaves 1"),
        ({1, 2}, "2 of 6 receipts are not in the file, among leaves 1-2"),
        ({4}, "1 of 6 receipts is not in the file, among leaves 3-4"),
        ({5}, "1 of 6 receipts is not in the file, among leaves 3, 5"),
        ({7, 8}, "2 of 6 receipts are not in the file, among leaves 6-8"),
    ],
)
def test_missing_receipts_are_named_by_their_index(dropped: set[int], named: str) -> None:
    kept = [item for item in HONEST.items if item.receipt.claims.log.index not in dropped]
    result = audited(receipts=kept)
    assert result.verdict is Verdict.SIMULATED
    check = about(result, "log of boot ")
    assert check.status is Status.INFO
    assert check.reason.endswith(named)
    assert any("completeness: that no receipt was left out" in note for note in result.not_proved)
    demanded = audited(receipts=kept, log=f"{LOOSE}\n{COMPLETE}")
    assert demanded.verdict is Verdict.INCOMPLETE
    assert open_checks(demanded) == {"EPOCH-CHAIN"}
    assert about(demanded, "log of boot ").reason == check.reason


def test_beginning_of_a_log_can_be_complete_where_its_end_is_not() -> None:
    reason = about(audited(receipts=HONEST.items[:5]), "log of boot ").reason
    assert reason.startswith("complete below size 6, and not shown to be complete below size 9: ")


def test_one_receipt_with_its_epoch_says_what_it_does_not_show() -> None:
    result = audited(receipts=HONEST.items[2:3], epochs=HONEST.epochs[1:2], log="")
    assert result.verdict is Verdict.SIMULATED
    assert "3 of 4 receipts are not in the file" in about(result, "log of boot ").reason


def test_leaves_of_epochs_that_are_not_in_the_file_are_unknown() -> None:
    result = audited(epochs=HONEST.epochs[2:])
    assert result.verdict is Verdict.SIMULATED
    reason = about(result, "log of boot ").reason
    assert "as many receipts are in the file as are counted, 6" in reason
    assert "without leaves 3, 6, which are no receipts" in reason


def test_leaf_before_its_epochs_own_size_is_unknown() -> None:
    log = history(1)
    log.entries.insert(1, b"\x03" + bytes(32))
    log.made.exchanged = []
    log.epochs = []
    fresh = EpochLog(log.made, entries=[log.entries[0], b"\x03" + bytes(32)])
    fresh.serve(2)
    fresh.quote_epoch()
    fresh.entries.pop()
    fresh.serve()
    fresh.quote_epoch()
    result = audited(fresh)
    assert not failed(result)
    assert about(result, "log of boot ").status is Status.INFO


def test_boot_without_epochs_is_not_complete() -> None:
    result = audited(epochs=[], receipts=HONEST.items, log=f"{LOOSE}\n{COMPLETE}")
    assert result.verdict is Verdict.INCOMPLETE
    assert "no quoted epoch" in about(result, "log of boot ").reason


def test_epochs_whose_leaves_are_not_there_cost_no_tree_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has genuine quotes could otherwise make a file that takes hours."""
    hashed: list[bytes] = []

    def note(entry: bytes) -> bytes:
        hashed.append(entry)
        return entry

    monkeypatch.setattr(audit, "leaf_hash", note)
    log = EpochLog(Gateway())
    sealed = [Sealed(receipt=one.item.receipt, checkpoint=None) for one in log.serve(20)]
    stated = log.statement()
    epochs = [
        QuotedEpoch(
            statement=replace(stated, epoch=number, size=22 + number // 2),
            quote_digest=Digest.of(b"%d" % number),
            text="",
        )
        for number in range(30)
    ]
    states = [epoch.state for epoch in epochs]
    boots, ledger = [log.made.evidence], Ledger(frozenset())
    audit.audit_logs(boots, sealed, epochs, states, ledger, demanded=False)
    assert len(hashed) <= 21 + 30
    (check,) = ledger.checks
    assert check.status is Status.INFO


def test_grants_are_those_of_the_receipts_below_each_epoch() -> None:
    log = EpochLog(Gateway())
    for name in (b"one", b"two", b"one"):
        log.serve(grant_digest=Digest.of(name))
        log.quote_epoch()
    assert log.verify(log=COMPLETE).verdict is Verdict.SIMULATED
    log.serve(grant_digest=Digest.of(b"three"))
    log.quote_epoch(grants_digest=log.epochs[-1].statement.grants_digest)
    result = log.verify()
    assert failed(result) == {"EPOCH-CHAIN"}
    assert "epoch 3 does not count" in about(result, "log of boot ").reason
    assert about(result, "log of boot ").expected.startswith("grants_digest ")


def test_earlier_epoch_that_counts_too_many_is_found_by_a_later_one() -> None:
    log = EpochLog(Gateway())
    log.announce()
    log.serve(2)
    log.quote_epoch(completed=1, in_flight=2)
    log.serve()
    log.quote_epoch()
    result = log.verify()
    assert failed(result) == {"EQUIVOCATION", "EPOCH-CHAIN"}
    assert about(result, "log of boot ").expected == "completed 2"


def test_signed_checkpoint_between_epochs_has_to_fit_the_leaves() -> None:
    log = history()
    log.made.exchanged[3] = replace(
        log.made.exchanged[3], item=replace(log.made.exchanged[3].item, proof=None)
    )
    log.prove(replace(log.epochs[1], checkpoint=log.note(log.checkpoint(6))), 6)
    assert log.verify(log=f"{LOOSE}\n{COMPLETE}").verdict is Verdict.SIMULATED


def test_contradictions_beyond_three_are_counted() -> None:
    log = history()
    for number in range(5):
        log.made.exchanged.append(
            replace(
                log.made.exchanged[0],
                item=log.made.seal(
                    log.made.outcome(jti=f"{number:032x}"), index=number + 1, admission=50 + number
                ),
            )
        )
    result = audited(log)
    (check,) = [c for c in result.checks if c.id == "EQUIVOCATION"]
    assert result.verdict is Verdict.REJECTED
    assert "; and " in check.reason
    assert check.observed.endswith((" contradiction", " contradictions"))


# Several boots


def test_boot_that_continues_after_its_predecessors_last_epoch_is_accepted() -> None:
    log = history()
    later = continued(log)
    later.serve(2)
    later.quote_epoch()
    result = together(log, later, log=COMPLETE)
    assert result.verdict is Verdict.SIMULATED
    chains = [c for c in result.checks if c.id == "BOOT-CHAIN" and c.status is Status.PASS]
    assert [check.observed for check in chains] == ["10 leaves"]


def test_boot_that_continues_an_older_copy_is_rejected() -> None:
    log = history()
    later = continued(log, size=8)
    result = together(log, later)
    assert failed(result) == {"BOOT-CHAIN"}
    (check,) = [c for c in result.checks if c.status is Status.FAIL]
    assert "older copy" in check.reason
    assert (check.expected, check.observed) == ("a checkpoint of at least 9 leaves", "8")


def test_boot_may_continue_at_the_very_size_that_was_quoted() -> None:
    log = history()
    assert together(log, continued(log, size=9), contents={}).verdict is Verdict.SIMULATED


@pytest.mark.parametrize("length", [1, 2, 3])
def test_boots_that_name_each_other_in_a_circle_cannot_pass(length: int) -> None:
    logs = [history(1)]
    for number in range(length - 1):
        logs.append(continued(logs[-1], seed=f"s{number}"))
    last, first = logs[-1], logs[0]
    prev = continued(last).made.evidence.statement.prev
    statement = replace(first.made.evidence.statement, prev=prev)
    boots = [one.made.evidence for one in logs]
    boots[0] = replace(boots[0], statement=statement)
    result = together(*logs, boots=boots)
    assert {"BOOT-STATEMENT", "BOOT-CHAIN"} <= failed(result)
    # Only the changed boot closes the circle; what the others name is what they were quoted with.
    circle = [c.subject for c in result.checks if c.id == "BOOT-CHAIN" and "circle" in c.reason]
    assert circle == [f"boot {first.made.bootseed.hex()[:16]}"]


# Words


@given(st.sets(st.integers(0, 40)), st.integers(0, 45))
def test_gaps_are_exactly_the_numbers_left_out(numbers: set[int], last: int) -> None:
    inside = sorted(number for number in numbers if number <= last)
    missing = gaps(inside, 0, last)
    named = [n for first, end in missing for n in range(first, end + 1)]
    assert sorted([*named, *inside]) == list(range(last + 1))
    assert all(end + 1 < first for (_, end), (first, _) in itertools.pairwise(missing))


def test_many_spans_are_cut_short() -> None:
    spans = [(n, n) for n in range(0, 30, 2)]
    assert named_spans(spans).endswith("12, 14, and 7 more")
    assert named_spans([(1, 3), (7, 7)]) == "1-3, 7"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "no contradiction: one signed receipt or checkpoint is here"),
        (2, "no contradiction among 2 signed receipts and checkpoints"),
    ],
)
def test_one_thing_alone_is_not_said_to_be_several_that_agree(count: int, told: str) -> None:
    ledger = Ledger(frozenset())
    check_equivocation([], count, ledger.about("file"))
    assert [check.reason for check in ledger.checks] == [told]
