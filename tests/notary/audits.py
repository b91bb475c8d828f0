"""An auditor over what a notary hands out: the whole pipeline, with bodies."""

from __future__ import annotations

import time
from collections.abc import Iterable

from attestation.bundle import Bundle, BundledReceipt, EpochEvidence, make_bundle
from attestation.policy import parse_policy
from attestation.receipt.signing import parse_receipt
from attestation.result import AttestationResult
from attestation.verifier import Contents, verify
from gateway.cli.local.policy import pin_policy
from gateway.notary.interface import Boot, Found
from gateway.notary.local import LocalNotary


def bundle_of(boot: Boot, founds: Iterable[Found], epochs: Iterable[EpochEvidence] = ()) -> Bundle:
    """The bundle of receipts as the gateway's routes would make it, with more epochs."""
    items, evidence = [], {epoch.statement.epoch: epoch for epoch in epochs}
    for found in founds:
        assert found.token is not None
        receipt = parse_receipt(found.token)
        items.append(BundledReceipt(receipt=receipt, openings=found.openings, proof=found.proof))
        if found.epoch is not None:
            evidence.setdefault(found.epoch.statement.epoch, found.epoch)
    return make_bundle(
        boots=[boot.evidence],
        collateral=[] if boot.collateral is None else [boot.collateral],
        epochs=evidence.values(),
        receipts=items,
    )


def audited(boot: Boot, bundle: Bundle, *, complete: bool = False) -> AttestationResult:
    """What an auditor concludes who was given the bodies that `outcome` makes."""
    policy = pin_policy(boot)
    if complete:
        policy = policy.replace("[log]\n", "[log]\nrequire_complete = true\n", 1)
    contents = {
        item.jti: Contents(request=b"request", response=b"response") for item in bundle.receipts
    }
    assert boot.anchor is not None
    return verify(bundle, parse_policy(policy.encode()), int(time.time()), [boot.anchor], contents)


async def all_epochs(notary: LocalNotary) -> list[EpochEvidence]:
    """Every epoch so far, in order."""
    newest = await notary.epoch(None)
    if newest is None:
        return []
    found = [await notary.epoch(number) for number in range(newest.statement.epoch + 1)]
    assert None not in found
    return [epoch for epoch in found if epoch is not None]
