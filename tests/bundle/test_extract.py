"""One receipt out of a bundle: it keeps what it needs, and nothing else."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from attestation.bundle import (
    EpochEvidence,
    extract_receipt,
    make_bundle,
    merge_bundles,
    parse_bundle,
)
from attestation.errors import MalformedError, UsageError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.tree import node_hash
from attestation.result import Verdict
from attestation.statement import EpochStatement
from tests.refusals import refusal
from tests.support.bundles import Gateway
from tests.support.epochs import EpochLog, proof_of

KILOBYTES_40 = 40_000


def history(seed: str = "a") -> EpochLog:
    log = EpochLog(Gateway(seed=seed))
    for _ in range(3):
        log.serve(2)
        log.quote_epoch()
    log.serve()
    return log


LOG, OTHER = history(), history("b")
WHOLE = merge_bundles(LOG.bundle(), OTHER.bundle())


@pytest.mark.parametrize("place", range(6))
def test_receipt_keeps_its_boot_and_the_one_epoch_it_needs(place: int) -> None:
    item = LOG.items[place]
    bundle = extract_receipt(WHOLE, item.jti)
    assert bundle.receipts == (item,)
    assert bundle.boots == (LOG.made.evidence,)
    assert bundle.epochs == (LOG.epochs[place // 2],)
    assert list(bundle.collateral) == [LOG.made.evidence.collateral]
    known = {item.jti: LOG.made.exchanged[place].contents()}
    assert LOG.verify(bundle=bundle, contents=known).verdict is Verdict.SIMULATED


def test_receipt_that_is_not_anchored_keeps_no_epoch() -> None:
    bundle = extract_receipt(WHOLE, LOG.items[6].jti)
    assert bundle.epochs == ()
    assert bundle.boots == (LOG.made.evidence,)


def test_receipt_whose_epoch_is_not_there_is_kept_all_the_same() -> None:
    bundle = extract_receipt(LOG.bundle(epochs=LOG.epochs[1:]), LOG.items[0].jti)
    assert bundle.epochs == ()
    assert bundle.receipts[0].proof is not None


@pytest.mark.parametrize("jti", ["0" * 32, ""])
def test_receipt_that_is_not_in_the_bundle_cannot_be_taken_out(jti: str) -> None:
    assert refusal(extract_receipt, WHOLE, jti, error=UsageError) == "receipt"


def test_one_receipt_of_a_long_boot_stays_under_forty_kilobytes_without_collateral() -> None:
    log = EpochLog(Gateway())
    (served,) = log.serve()
    size, leaf = 1 << 20, log.leaves()[1]
    path = [log.leaves()[0], *(bytes([level]) * 32 for level in range(1, 20))]
    root = node_hash(path[0], leaf)
    for sibling in path[1:]:
        root = node_hash(root, sibling)
    checkpoint = Checkpoint(origin=log.made.origin, size=size, root=root)
    log.admitted = size - 2
    epoch = log.evidence(checkpoint=checkpoint, completed=size - 2, in_flight=0)
    template = proof_of(1, log.leaves(), epoch.checkpoint)
    proof = template.replace(
        template[template.index("index 1\n") + 8 : template.index("\n\n")],
        "\n".join(_base64(node) for node in path),
    )
    item = replace(served.item, proof=proof)
    bundle = log.bundle(receipts=[item], epochs=[epoch], collateral=[])
    assert bundle.boots[0].event_log is not None
    assert len(bundle.encode()) < KILOBYTES_40
    result = log.verify(receipts=[item], epochs=[epoch])
    assert result.verdict is Verdict.SIMULATED


def _base64(node: bytes) -> str:
    return b64encode(node).decode()


# Merging epochs


def test_range_of_epochs_is_merged_from_files_of_one_each() -> None:
    parts = [LOG.bundle(epochs=[epoch], receipts=[]) for epoch in LOG.epochs]
    parts.append(LOG.bundle(epochs=[]))
    merged = merge_bundles(*reversed(parts), *parts)
    assert merged == LOG.bundle()
    assert parse_bundle(merged.encode()) == merged


def test_epoch_without_endorsements_gains_those_of_another_file() -> None:
    (bare, *_) = (replace(epoch, collateral=None) for epoch in LOG.epochs)
    thin = make_bundle(epochs=[bare])
    for order in ((thin, LOG.bundle()), (LOG.bundle(), thin)):
        assert merge_bundles(*order).epochs == LOG.bundle().epochs


@pytest.mark.parametrize("changes", [{"quote": b"other"}, {"checkpoint": "other"}])
def test_one_epoch_statement_with_two_quotes_or_checkpoints_is_refused(
    changes: dict[str, bytes | str],
) -> None:
    other: EpochEvidence = replace(LOG.epochs[0], **changes)  # type: ignore[arg-type]
    with pytest.raises(MalformedError, match="epoch 0 of boot") as caught:
        merge_bundles(LOG.bundle(), make_bundle(epochs=[other]))
    assert caught.value.code == "conflict"


def test_two_statements_of_one_number_both_stay_as_evidence() -> None:
    said: EpochStatement = replace(LOG.epochs[0].statement, unauthenticated=1)
    forked = make_bundle(epochs=[LOG.evidence(said)])
    merged = merge_bundles(LOG.bundle(), forked)
    assert [epoch.statement.epoch for epoch in merged.epochs] == [0, 0, 1, 2]
    assert LOG.verify(bundle=merged, log="").verdict is Verdict.REJECTED
