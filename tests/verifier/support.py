"""Healthy gateways with one receipt, and what became of a changed one."""

from __future__ import annotations

from typing import Any

from attestation.bundle import BundledReceipt
from attestation.result import AttestationResult, Check, Verdict
from tests.support.bundles import (
    Gateway,
    failed,
)
from tests.support.epochs import EpochLog


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


def epoch_log(rounds: int = 3) -> EpochLog:
    """A log with two receipts and a quoted epoch in each round."""
    log = EpochLog(Gateway())
    for _ in range(rounds):
        log.serve(2)
        log.quote_epoch()
    return log


def checks(result: AttestationResult, id_: str) -> list[Check]:
    """Every check with this id."""
    return [check for check in result.checks if check.id == id_]
