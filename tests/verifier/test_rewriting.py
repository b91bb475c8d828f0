"""What only a consistent rewriter can change, and must not: the pipeline refuses it too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attestation.bundle import make_bundle
from attestation.result import AttestationResult, Verdict
from gateway.attester.simulated.keys import complement_s
from tests.support.bundles import Gateway, failed, open_checks

GATEWAY = Gateway()
GATEWAY.plain()


def verified(**changes: Any) -> AttestationResult:
    """Verify after changing the one collateral set, named anew."""
    collateral = replace(GATEWAY.machine.collateral(), **changes)
    boot = replace(GATEWAY.evidence, collateral=collateral.digest)
    items = [exchanged.item for exchanged in GATEWAY.exchanged]
    bundle = make_bundle(boots=[boot], collateral=[collateral], receipts=items)
    return GATEWAY.verify(bundle=bundle)


def test_untouched_endorsements_are_accepted() -> None:
    assert verified().verdict is Verdict.SIMULATED


def test_endorsements_without_the_issuer_of_a_revocation_list_are_refused() -> None:
    result = verified(pck_crl_issuer_chain="")
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-GENUINE"}


def test_endorsements_with_a_chain_spelled_otherwise_are_refused() -> None:
    chain = GATEWAY.machine.collateral().tcb_info_issuer_chain
    assert verified(tcb_info_issuer_chain=chain + "\n").verdict is Verdict.MALFORMED


def test_endorsements_with_a_root_too_many_are_refused() -> None:
    chain = GATEWAY.machine.collateral().tcb_info_issuer_chain
    root = chain[chain.rindex("-----BEGIN") :]
    result = verified(tcb_info_issuer_chain=chain + root)
    assert result.verdict is Verdict.REJECTED
    assert failed(result) == {"QUOTE-GENUINE"}


def test_quote_with_the_other_spelling_of_a_signature_is_refused() -> None:
    quote = bytearray(GATEWAY.evidence.quote)
    quote[636:700] = complement_s(bytes(quote[636:700]))
    boot = replace(GATEWAY.evidence, quote=bytes(quote))
    result = GATEWAY.verify(bundle=GATEWAY.bundle(boots=[boot]))
    assert result.verdict is Verdict.MALFORMED
    assert failed(result) == {"QUOTE-FORMAT"}


def test_boot_without_endorsements_stays_open() -> None:
    boot = replace(GATEWAY.evidence, collateral=None)
    result = GATEWAY.verify(bundle=GATEWAY.bundle(boots=[boot], collateral=[]))
    assert result.verdict is Verdict.INCOMPLETE
    assert "QUOTE-GENUINE" in open_checks(result)
