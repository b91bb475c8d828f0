"""Attacks on the log: each refused by its own check, and an honest history by none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import EpochEvidence
from attestation.encoding.digest import Digest
from attestation.result import AttestationResult, Status, Verdict
from gateway.attester.simulated.facts import Domain, Machine
from tests.support.bundles import Gateway, failed, open_checks
from tests.support.epochs import (
    COMPLETE,
    EpochLog,
)
from tests.verifier.attacks import HONEST, LOOSE, MACHINE, OPEN, REJECTED, Attack, elsewhere, forked

DOMAINS = {
    "MRTD": Domain(mrtd=b"\x01" * 48),
    "RTMR0": Domain(rtmrs=(b"\x01" * 48, *Domain().rtmrs[1:])),
    "RTMR1": Domain(rtmrs=(Domain().rtmrs[0], b"\x01" * 48, *Domain().rtmrs[2:])),
    "RTMR2": Domain(rtmrs=(*Domain().rtmrs[:2], b"\x01" * 48, Domain().rtmrs[3])),
    "RTMR3": Domain(rtmrs=(*Domain().rtmrs[:3], b"\x01" * 48)),
    "XFAM 0x600e7": Domain(xfam=0x600E7),
    "TDATTRIBUTES 0x10000001": Domain(td_attributes=Domain().td_attributes | 1),
    "MRCONFIGID": Domain(mr_config_id=b"\x01" * 48),
    "MROWNER": Domain(mr_owner=b"\x01" * 48),
    "MROWNERCONFIG": Domain(mr_owner_config=b"\x01" * 48),
}


MACHINES = {
    "PPID": Machine(ppid=b"\x01" * 16),
    "PIID": Machine(piid=b"\x01" * 16),
    "PIID none": Machine(single_package=True),
}


@pytest.mark.parametrize("named", DOMAINS)
def test_copied_statement_quoted_in_another_domain_is_rejected(named: str) -> None:
    result = elsewhere(MACHINE.but(domain=DOMAINS[named]))
    assert result.verdict is Verdict.REJECTED
    assert_names(result, named)


def test_copied_statement_quoted_in_a_debug_domain_is_not_accepted_either() -> None:
    result = elsewhere(MACHINE.but(domain=DOMAINS["TDATTRIBUTES 0x10000001"]))
    assert failed(result) == {"EPOCH-QUOTE", "TD-ATTRIBUTES"}


@pytest.mark.parametrize("named", MACHINES)
def test_copied_statement_quoted_on_another_platform_is_rejected(named: str) -> None:
    result = elsewhere(MACHINE.but(machine=MACHINES[named]))
    assert failed(result) == {"EPOCH-QUOTE"}
    assert_names(result, named)


def assert_names(result: AttestationResult, named: str) -> None:
    """EPOCH-QUOTE failed, and says which part of the identity is another."""
    (check,) = [c for c in result.checks if c.id == "EPOCH-QUOTE" and c.status is Status.FAIL]
    assert check.subject.startswith("epoch 0 ")
    assert named.partition(" ")[0] in check.expected
    assert named in check.observed


@pytest.mark.parametrize(
    "change",
    [
        {"bootseed": b"\x01" * 32},
        {"boot_quote_digest": Digest.of(b"x")},
        {"keyset_digest": Digest.of(b"x")},
    ],
)
def test_epoch_quoted_by_this_boot_about_another_is_not_its_own(change: dict[str, Any]) -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch(**change)
    result = log.verify()
    assert open_checks(result) >= {"EPOCH-QUOTE"}
    assert failed(result) == (set() if "bootseed" in change else {"EPOCH-QUOTE"})


COUNTERS = ("size", "admitted", "completed", "in_flight", "unauthenticated", "refused_unreceipted",
            "epoch", "time_claimed")  # fmt: skip


@pytest.mark.parametrize("counter", COUNTERS)
def test_counter_changed_after_the_quote_is_rejected(counter: str) -> None:
    epoch: EpochEvidence = HONEST.epochs[-1]
    value = getattr(epoch.statement, counter) + 1
    changed = replace(epoch, statement=replace(epoch.statement, **{counter: value}))
    result = HONEST.verify(epochs=[*HONEST.epochs[:-1], changed])
    assert failed(result) == {"EPOCH-QUOTE"}
    assert result.verdict is Verdict.REJECTED


def test_equivocation_names_the_two_things_that_contradict() -> None:
    other = forked(3)
    other.serve(jti="f" * 32)
    item = other.items[2]
    result = HONEST.verify(receipts=[*HONEST.items, item], log=LOOSE, contents={})
    (check,) = [c for c in result.checks if c.id == "EQUIVOCATION"]
    assert f"receipt {'f' * 32}" in check.reason
    assert str(item.receipt.digest) in check.reason


def test_honest_history_is_accepted_and_complete() -> None:
    result = HONEST.verify(log=COMPLETE)
    assert result.verdict is Verdict.SIMULATED


@pytest.mark.parametrize("attack", REJECTED, ids=lambda attack: attack.__name__)
def test_attack_on_the_log_is_rejected_by_its_own_check(attack: Attack) -> None:
    result = attack()
    assert failed(result) == REJECTED[attack]
    assert result.verdict is Verdict.REJECTED


@pytest.mark.parametrize("attack", OPEN, ids=lambda attack: attack.__name__)
def test_attack_that_only_lacks_a_quote_is_incomplete(attack: Attack) -> None:
    result = attack()
    assert not failed(result)
    assert open_checks(result) == OPEN[attack]
    assert result.verdict is Verdict.INCOMPLETE
