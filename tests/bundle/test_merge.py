from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.bundle import Bundle, BundledReceipt, make_bundle, merge_bundles, parse_bundle
from attestation.errors import MalformedError
from attestation.receipt.commitments import Openings
from attestation.receipt.signing import parse_receipt
from tests.bundle.test_bundle import epoch_of
from tests.refusals import refusal
from tests.support.bundles import Gateway


def gateway(seed: str = "a") -> Gateway:
    made = Gateway(seed=seed)
    made.plain()
    made.plain(request=b"{}")
    return made


A, B = gateway(), gateway("b")


def bundle_of(item: BundledReceipt) -> Bundle:
    return Bundle(receipts=(item,))


def refuse(one: Bundle, other: Bundle) -> None:
    assert refusal(merge_bundles, one, other) == "conflict"
    assert refusal(merge_bundles, other, one) == "conflict"


def test_bundles_of_two_boots_become_one() -> None:
    merged = merge_bundles(B.bundle(), A.bundle())
    assert parse_bundle(merged.encode()) == merged
    assert len(merged.boots) == len(merged.collateral) == 2
    assert len(merged.receipts) == 4


def test_merging_is_idempotent_and_does_not_depend_on_the_order() -> None:
    merged = merge_bundles(A.bundle(), B.bundle())
    assert merge_bundles(merged, merged, A.bundle()) == merged
    assert merge_bundles(B.bundle(), A.bundle()) == merged
    assert merge_bundles() == Bundle()


def test_lone_receipt_joins_its_boot_and_keeps_proof_and_openings() -> None:
    anchored = gateway()
    anchored.anchored()
    item = anchored.exchanged[0].item
    bare = bundle_of(replace(item, openings=None, proof=None))
    for merged in (
        merge_bundles(bare, bundle_of(item)),
        merge_bundles(bundle_of(item), bare),
    ):
        assert merged.receipts == (item,)


def test_openings_disclosed_apart_come_together() -> None:
    item = A.exchanged[0].item
    assert item.openings is not None
    request = Openings(keys={"req": item.openings.keys["req"]})
    response = Openings(keys={"res": item.openings.keys["res"]}, inserted=(b"x",))
    merged = merge_bundles(
        bundle_of(replace(item, openings=request)), bundle_of(replace(item, openings=response))
    )
    (both,) = merged.receipts
    assert both.openings == Openings(keys=item.openings.keys, inserted=(b"x",))


def test_contradicting_openings_are_refused() -> None:
    item = A.exchanged[0].item
    one = bundle_of(replace(item, openings=Openings(keys={"req": bytes(32)})))
    refuse(one, bundle_of(item))
    inserted = [
        bundle_of(replace(item, openings=Openings(keys={}, inserted=(x,)))) for x in (b"a", b"b")
    ]
    refuse(*inserted)


def test_contradicting_proofs_are_refused() -> None:
    item = A.exchanged[0].item
    refuse(bundle_of(replace(item, proof="a")), bundle_of(replace(item, proof="b")))


def test_one_receipt_with_two_signatures_is_refused() -> None:
    item = A.exchanged[0].item
    head, _, signature = item.receipt.token.rpartition(".")
    forged = parse_receipt(f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")
    refuse(bundle_of(item), bundle_of(replace(item, receipt=forged)))


def test_boot_gains_what_another_file_knows_of_it() -> None:
    full = make_bundle(
        boots=[replace(A.evidence, gpu=({"a": 1},))], collateral=[A.machine.collateral()]
    )
    bare = Bundle(boots=(replace(A.evidence, collateral=None, event_log=None),))
    assert merge_bundles(bare, full) == full
    assert merge_bundles(full, bare) == full


def test_of_two_collateral_sets_for_one_boot_the_first_stays() -> None:
    later = A.machine.collateral(at=A.machine.now + 86_400)
    fresh = make_bundle(boots=[replace(A.evidence, collateral=later.digest)], collateral=[later])
    merged = merge_bundles(fresh, A.bundle())
    assert list(merged.collateral) == [later.digest]
    assert list(merge_bundles(A.bundle(), fresh).collateral) == [A.evidence.collateral]


def test_two_boots_with_one_bootseed_are_refused() -> None:
    other = Bundle(boots=(replace(A.evidence, quote=B.evidence.quote),))
    refuse(Bundle(boots=(A.evidence,)), other)


def test_two_event_logs_or_gpu_reports_of_one_boot_are_refused() -> None:
    refuse(
        Bundle(boots=(A.evidence,)),
        Bundle(boots=(replace(A.evidence, event_log=B.evidence.event_log),)),
    )
    refuse(
        Bundle(boots=(replace(A.evidence, gpu=({"a": 1},)),)),
        Bundle(boots=(replace(A.evidence, gpu=({"a": 2},)),)),
    )


def test_contradicting_receipts_and_epochs_both_stay_as_evidence() -> None:
    split = gateway()
    first = split.exchanged[0].item
    second = split.seal(split.outcome(request=b"other"), index=1)
    merged = merge_bundles(bundle_of(first), bundle_of(second))
    assert len(merged.receipts) == 2
    one = epoch_of(A)
    other = replace(one, statement=replace(one.statement, size=4))
    epochs = merge_bundles(Bundle(epochs=(one,)), Bundle(epochs=(other,)), Bundle(epochs=(one,)))
    assert len(epochs.epochs) == 2


def test_task_records_are_kept_once() -> None:
    token = A.exchanged[0].item.receipt.token
    one = Bundle(tasks=(token,))
    assert merge_bundles(one, one).tasks == (token,)


def test_message_says_what_contradicts() -> None:
    with pytest.raises(MalformedError, match=A.exchanged[0].jti):
        merge_bundles(
            bundle_of(replace(A.exchanged[0].item, proof="a")),
            bundle_of(replace(A.exchanged[0].item, proof="b")),
        )
