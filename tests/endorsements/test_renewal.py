"""What a worker takes of endorsements that the notary renewed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.errors import MalformedError
from attestation.tdx.collateral import Collateral
from gateway.notary.interface import Boot
from gateway.notary.wire import replies
from gateway.notary.wire.replies import Condition
from tests.endorsements.stage import NEW, OLD
from tests.refusals import refusal


def boot_of(collateral: Collateral | None = OLD) -> Boot:
    from tests.support.bundles import Gateway  # noqa: PLC0415 - slow to make

    gateway = Gateway()
    evidence = replace(
        gateway.evidence, collateral=None if collateral is None else collateral.digest
    )
    return Boot(
        evidence=evidence,
        collateral=collateral,
        anchor=gateway.anchor,
        provider="simulated",
        keyset_digest=evidence.statement.keyset_digest,
        log_origin=evidence.statement.log_origin,
        cache_salt_key=bytes(32),
    )


HEALTHY = Condition(healthy=True, reason="")


def test_worker_takes_renewed_endorsements() -> None:
    for one in (NEW, None):
        payload = replies.encode_hello(boot_of(one), HEALTHY)
        assert replies.decode_renewal(payload, boot_of()) == (boot_of(one), HEALTHY)


@pytest.mark.parametrize(
    "change", [{"provider": "other"}, {"anchor": None}, {"cache_salt_key": b"x" * 32}]
)
def test_worker_refuses_a_renewal_that_changes_anything_else(change: dict[str, Any]) -> None:
    payload = replies.encode_hello(replace(boot_of(NEW), **change), HEALTHY)
    assert refusal(replies.decode_renewal, payload, boot_of())


def test_worker_refuses_a_renewal_by_another_boot() -> None:
    from tests.support.bundles import Gateway  # noqa: PLC0415

    other = Gateway(seed="another").evidence
    boot = boot_of(None)
    renewed = replace(
        boot,
        evidence=replace(other, collateral=None),
        keyset_digest=other.statement.keyset_digest,
        log_origin=other.statement.log_origin,
    )
    with pytest.raises(MalformedError):
        replies.decode_renewal(replies.encode_hello(renewed, HEALTHY), boot)
