"""CVE-2026-22696 / GHSA-796p-j2gh-9m2q: a quote verifier fetched the quoting enclave's identity and
never verified it.

Lesson: having a piece of endorsement is not checking it.  Every one of the nine parts is forged
here in turn, consistently, and each forgery must be noticed by itself.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from attestation.result import AttestationResult, Verdict
from attestation.tdx.collateral import Collateral
from gateway.attester.simulated.facts import Endorsements, Machine
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Gateway, failed

GATEWAY = Gateway()
GATEWAY.plain()
FORGER = SimulatedPlatform(now=NOW + 1, seed=b"forger").collateral()
PARTS = [part.name for part in fields(Collateral)]


def judged(**changes: Any) -> AttestationResult:
    collateral = replace(GATEWAY.machine.collateral(), **changes)
    boot = replace(GATEWAY.evidence, collateral=collateral.digest)
    return GATEWAY.verify(bundle=GATEWAY.bundle(boots=[boot], collateral=[collateral]))


@pytest.mark.parametrize("part", PARTS)
def test_part_made_by_somebody_else_is_refused(part: str) -> None:
    assert getattr(FORGER, part) != getattr(GATEWAY.machine.collateral(), part)
    result = judged(**{part: getattr(FORGER, part)})
    assert result.verdict in (Verdict.REJECTED, Verdict.MALFORMED)
    assert failed(result) == {"QUOTE-GENUINE"}


@pytest.mark.parametrize(
    ("text", "signature", "chain"),
    [
        ("qe_identity", "qe_identity_signature", "qe_identity_issuer_chain"),
        ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"),
    ],
)
def test_text_with_signature_and_chain_made_by_somebody_else_is_refused(
    text: str, signature: str, chain: str
) -> None:
    result = judged(**{part: getattr(FORGER, part) for part in (text, signature, chain)})
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"QUOTE-GENUINE"}


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("qe_identity", '"isvsvn":4', '"isvsvn":1'),
        ("qe_identity", '"isvprodid":2', '"isvprodid":3'),
        ("tcb_info", '"tcbStatus":"UpToDate"', '"tcbStatus":"OutOfDate"'),
        ("tcb_info", '"nextUpdate":"20', '"nextUpdate":"21'),
    ],
)
def test_signed_text_with_one_fact_changed_is_refused(part: str, old: str, new: str) -> None:
    text = getattr(GATEWAY.machine.collateral(), part)
    assert old in text
    result = judged(**{part: text.replace(old, new, 1)})
    assert failed(result) == {"QUOTE-GENUINE"}


@pytest.mark.parametrize(
    "machine",
    [
        {"qe_mr_signer": bytes(32)},
        {"qe_isv_prod_id": 3},
        {"qe_misc_select": b"\x01\x00\x00\x00"},
        {"qe_attributes": bytes.fromhex("1300000000000000e700000000000000")},
        {"qe_isv_svn": 3},
    ],
)
def test_quoting_enclave_that_is_not_the_endorsed_one_is_refused(machine: dict[str, Any]) -> None:
    made = Gateway(platform=GATEWAY.machine.but(machine=Machine(**machine)))
    made.plain()
    result = made.verify(policy=GATEWAY.policy())
    assert result.verdict in (Verdict.REJECTED, Verdict.NOT_ACCEPTED)
    assert failed(result) <= {"QUOTE-GENUINE", "TCB-STATUS"}


def test_identity_of_another_enclave_under_the_right_signature_is_refused() -> None:
    made = Gateway(platform=GATEWAY.machine.but(endorsements=Endorsements(qe_id="QE")))
    made.plain()
    result = made.verify(policy=GATEWAY.policy())
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"QUOTE-GENUINE"}
