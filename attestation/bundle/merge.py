"""Several bundles into one: the same facts once, contradictions about order kept as evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attestation.bundle.model import (
    BootEvidence,
    Bundle,
    BundledReceipt,
    EpochEvidence,
    make_bundle,
)
from attestation.errors import MalformedError
from attestation.receipt.commitments import Openings

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest


def merge_bundles(*bundles: Bundle) -> Bundle:
    """Return one bundle with everything that `bundles` hold.

    The same boot or epoch with and without endorsements keeps them (of two sets, the first); the
    same receipt keeps its proof and every opening that either shows.  Two different receipts with
    one index, or two epochs with one number, both stay: `verify` reports them.  Raises
    `MalformedError` (code "conflict") for two different boots with one bootseed, for one receipt
    with different openings or proofs, and for one epoch with different quotes or checkpoints.
    """
    boots: dict[bytes, BootEvidence] = {}
    epochs: dict[Digest, EpochEvidence] = {}
    receipts: dict[Digest, BundledReceipt] = {}
    for bundle in bundles:
        for boot in bundle.boots:
            seed = boot.statement.bootseed
            boots[seed] = _merge_boots(boots.get(seed, boot), boot)
        for epoch in bundle.epochs:
            digest = epoch.statement.digest
            epochs[digest] = _merge_epochs(epochs.get(digest, epoch), epoch)
        for item in bundle.receipts:
            digest = item.receipt.digest
            receipts[digest] = _merge_receipts(receipts.get(digest, item), item)
    return make_bundle(
        boots=boots.values(),
        collateral=[item for bundle in bundles for item in bundle.collateral.values()],
        epochs=epochs.values(),
        receipts=receipts.values(),
        tasks={task for bundle in bundles for task in bundle.tasks},
    )


def _merge_boots(first: BootEvidence, second: BootEvidence) -> BootEvidence:
    merged = replace(
        first,
        collateral=first.collateral or second.collateral,
        event_log=first.event_log or second.event_log,
        gpu=first.gpu or second.gpu,
    )
    same = replace(
        second,
        collateral=merged.collateral,
        event_log=second.event_log or merged.event_log,
        gpu=second.gpu or merged.gpu,
    )
    if same != merged:
        raise _conflict(f"boot {first.statement.bootseed.hex()[:16]}", "one boot for each bootseed")
    return merged


def _merge_epochs(first: EpochEvidence, second: EpochEvidence) -> EpochEvidence:
    merged = replace(first, collateral=first.collateral or second.collateral)
    if replace(second, collateral=merged.collateral) != merged:
        said = first.statement
        raise _conflict(
            f"epoch {said.epoch} of boot {said.bootseed.hex()[:16]}",
            "one quote and one checkpoint for each epoch statement",
        )
    return merged


def _merge_receipts(first: BundledReceipt, second: BundledReceipt) -> BundledReceipt:
    if first.receipt.token != second.receipt.token:
        raise _conflict(f"receipt {first.jti}", "one signature for each receipt")
    if first.proof and second.proof and first.proof != second.proof:
        raise _conflict(f"receipt {first.jti}", "one inclusion proof: an epoch anchors it once")
    return BundledReceipt(
        receipt=first.receipt,
        openings=_merge_openings(first, second),
        proof=first.proof or second.proof,
    )


def _merge_openings(first: BundledReceipt, second: BundledReceipt) -> Openings | None:
    if first.openings is None or second.openings is None:
        return first.openings or second.openings
    one, other = first.openings, second.openings
    keys = {**one.keys, **other.keys}
    inserted = one.inserted or other.inserted
    agree = all(one.keys.get(label, key) == key for label, key in keys.items())
    if not agree or (other.inserted or inserted) != inserted:
        raise _conflict(f"receipt {first.jti}", "the same openings wherever they are shown")
    return Openings(keys=keys, inserted=inserted)


def _conflict(what: str, expected: str) -> MalformedError:
    return MalformedError(
        f"the bundles contradict each other about {what}",
        code="conflict",
        expected=expected,
        hint="verify each file on its own: at least one of them is wrong",
    )
