"""Healthy gateways with one receipt, and what became of a changed one."""

from __future__ import annotations

from typing import Any

from attestation.bundle import BundledReceipt
from attestation.result import AttestationResult, Verdict
from tests.support.bundles import (
    Gateway,
    failed,
)


def gateway(seed: str = "a", **changes: Any) -> Gateway:
    made = Gateway(seed=seed, **changes)
    made.plain()
    return made


HEALTHY = gateway()


OTHER = gateway("b")


def refused(result: AttestationResult, verdict: Verdict, *ids: str) -> None:
    assert result.verdict is verdict
    assert failed(result) == set(ids)


def with_item(made: Gateway, item: BundledReceipt) -> AttestationResult:
    return made.verify(bundle=made.bundle(receipts=[item]))


def known(made: Gateway, **changes: Any) -> AttestationResult:
    (exchanged,) = made.exchanged
    return made.verify(contents={exchanged.jti: exchanged.contents(**changes)})
