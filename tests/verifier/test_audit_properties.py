"""Whatever is left out of an honest log's file, nobody is accused; and hostile numbers end soon."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.merkle.tree import EMPTY_ROOT
from attestation.result import Check, Status
from attestation.statement import EpochStatement
from attestation.verifier.audit import audit_logs
from attestation.verifier.chain import check_epoch_chains
from attestation.verifier.epochs import QuotedEpoch
from attestation.verifier.equivocation import Sealed, find_contradictions
from attestation.verifier.ledger import Ledger
from tests.support.bundles import Gateway
from tests.support.epochs import EpochLog

MADE = Gateway()
Round = tuple[int, int]


def honest(rounds: list[Round]) -> tuple[list[Sealed], list[QuotedEpoch]]:
    """A log of some rounds: receipts sealed, requests announced that stay in flight, an epoch."""
    MADE.exchanged.clear()
    log = EpochLog(MADE)
    epochs: list[QuotedEpoch] = []
    before = MADE.quote_digest
    for receipts, flying in rounds:
        log.announce(flying)
        log.serve(receipts)
        said = log.statement(epoch=len(epochs), prev_quote_digest=before)
        before = Digest.of(b"quote %d" % len(epochs))
        epochs.append(QuotedEpoch(statement=said, quote_digest=before, text=""))
        log.entries.append(b"\x02" + said.digest.value)
    return [Sealed(receipt=item.receipt, checkpoint=None) for item in log.items], epochs


def audited(sealed: list[Sealed], epochs: list[QuotedEpoch]) -> tuple[list[str], list[Check]]:
    ledger = Ledger(frozenset())
    states = [epoch.state for epoch in epochs]
    found = find_contradictions(sealed, epochs, states)
    check_epoch_chains(epochs, ledger)
    boots = [MADE.evidence]
    found += audit_logs(boots, sealed, epochs, states, ledger, demanded=False)
    return found, list(ledger.checks)


rounds_ = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=5)


@settings(deadline=None)
@given(rounds_, st.data())
def test_leaving_out_parts_of_an_honest_log_accuses_nobody(
    rounds: list[Round], data: st.DataObject
) -> None:
    sealed, epochs = honest(rounds)
    kept = data.draw(st.sets(st.integers(0, max(0, len(sealed) - 1))))
    counted = data.draw(st.sets(st.integers(0, len(epochs) - 1)))
    fewer = [one for place, one in enumerate(sealed) if place in kept]
    some = [one for place, one in enumerate(epochs) if place in counted]
    found, checks = audited(fewer, some)
    assert found == []
    assert not any(check.status is Status.FAIL for check in checks)
    complete = [c for c in checks if c.subject.startswith("log of") and c.status is Status.PASS]
    if not some:
        assert complete == []
        return
    newest = some[-1].statement
    everything = {p for p, s in enumerate(sealed) if s.receipt.claims.log.index < newest.size}
    whole = everything <= kept and len(some) == newest.epoch + 1
    assert bool(complete) == whole


@settings(deadline=None)
@given(rounds_)
def test_whole_honest_log_is_complete_and_unbroken(rounds: list[Round]) -> None:
    found, checks = audited(*honest(rounds))
    assert found == []
    assert [check.status for check in checks] == [Status.PASS, Status.PASS]


@settings(deadline=None)
@given(rounds_, st.data())
def test_one_receipt_exchanged_for_another_of_the_same_key_is_always_noticed(
    rounds: list[Round], data: st.DataObject
) -> None:
    sealed, epochs = honest([(1, 0), *rounds])
    place = data.draw(st.integers(0, len(sealed) - 1))
    claims = sealed[place].receipt.claims
    outcome = MADE.outcome(request=b"never sent", jti="e" * 32)
    forged = MADE.seal(outcome, index=claims.log.index, admission=claims.log.admission)
    sealed[place] = Sealed(receipt=forged.receipt, checkpoint=None)
    found, _ = audited(sealed, epochs)
    assert any("another root" in one for one in found)


numbers = st.integers(0, 6) | st.integers(0, (1 << 53) - 1)


@st.composite
def statements(draw: st.DrawFn) -> EpochStatement:
    plain = EpochLog(MADE).statement()
    root = draw(st.sampled_from([EMPTY_ROOT, plain.root.value]))
    return replace(
        plain,
        epoch=draw(numbers),
        size=draw(numbers.filter(bool)),
        root=Digest(root),
        completed=draw(numbers),
        admitted=draw(numbers),
        in_flight=draw(numbers),
        prev_quote_digest=draw(st.sampled_from([MADE.quote_digest, Digest.of(b"x")])),
    )


@settings(deadline=None)
@given(st.lists(statements(), max_size=6), rounds_)
def test_hostile_numbers_in_quoted_epochs_are_judged_in_no_time(
    hostile: list[EpochStatement], rounds: list[Round]
) -> None:
    sealed, _ = honest(rounds)
    epochs = [
        QuotedEpoch(statement=said, quote_digest=said.digest, text="")
        for said in sorted(hostile, key=lambda said: said.epoch)
    ]
    _, checks = audited(sealed, epochs)
    assert all(len(check.reason) < 600 for check in checks)
