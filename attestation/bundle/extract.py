"""One receipt out of a bundle, with no more than it takes to verify it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.bundle.model import Bundle, BundledReceipt, make_bundle
from attestation.errors import UsageError
from attestation.merkle.note import parse_note
from attestation.merkle.tlog_proof import parse_tlog_proof

if TYPE_CHECKING:
    from attestation.bundle.model import EpochEvidence


def extract_receipt(bundle: Bundle, jti: str) -> Bundle:
    """Return the bundle of one receipt: it, its boot, and the one epoch that anchors it.

    The epoch is the first of the boot over the checkpoint that the receipt's proof leads to; there
    is none for a receipt without a proof, or where the bundle does not have it.  Raises
    `UsageError` (code "receipt") unless exactly one receipt has this id.
    """
    items = [item for item in bundle.receipts if item.jti == jti]
    if len(items) != 1:
        raise UsageError(
            f"there is no single receipt {ascii(jti)[:48]} in the bundle",
            code="receipt",
            expected="the id of exactly one receipt",
            observed=f"{len(items)} receipts",
            hint="`attested inspect FILE` lists them",
        )
    (item,) = items
    bootseed = item.receipt.claims.bootseed
    return make_bundle(
        boots=[boot for boot in bundle.boots if boot.statement.bootseed == bootseed],
        collateral=bundle.collateral.values(),
        epochs=_anchoring(bundle, item),
        receipts=[item],
    )


def _anchoring(bundle: Bundle, item: BundledReceipt) -> list[EpochEvidence]:
    if item.proof is None:
        return []
    text = parse_note(parse_tlog_proof(item.proof).note).text
    return [
        epoch
        for epoch in bundle.epochs
        if epoch.statement.bootseed == item.receipt.claims.bootseed
        and parse_note(epoch.checkpoint).text == text
    ][:1]
