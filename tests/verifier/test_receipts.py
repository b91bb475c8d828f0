"""Signature, binding, nonce, channel and model of a receipt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import Bundle, BundledReceipt
from attestation.encoding.digest import Digest
from attestation.encoding.jws import assemble
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import Status, Verdict
from tests.support.bundles import (
    NOW,
    TLS_SPKI,
    Gateway,
    failed,
    open_checks,
    the_check,
)
from tests.verifier.support import HEALTHY, OTHER, gateway, known, refused, with_item

# Signature and binding


def test_signature_with_a_flipped_bit_is_rejected() -> None:
    receipt = HEALTHY.exchanged[0].item.receipt
    signature = bytes([receipt.jws.signature[0] ^ 1]) + receipt.jws.signature[1:]
    forged = parse_receipt(assemble(receipt.jws.signing_input, signature))
    result = with_item(HEALTHY, BundledReceipt(receipt=forged))
    assert result.verdict is Verdict.REJECTED
    assert "RECEIPT-SIGNATURE" in failed(result)


def test_receipt_signed_by_key_outside_keyset_is_rejected() -> None:
    thief = Gateway(seed="a")
    thief.keyset = HEALTHY.keyset
    item = HEALTHY.exchanged[0].item
    stolen = replace(item, receipt=parse_receipt(_signed_by(OTHER, thief)))
    result = with_item(HEALTHY, stolen)
    assert failed(result) >= {"RECEIPT-SIGNATURE"}
    assert "another key" in the_check(result, "RECEIPT-SIGNATURE").reason


def _signed_by(signer: Gateway, content: Gateway) -> str:
    claims = HEALTHY.exchanged[0].item.receipt.claims
    assert content.bootseed == claims.bootseed
    return sign_receipt(claims, signer.receipt_key, signer.receipt_jwk.kid)


@pytest.mark.parametrize(
    ("context", "named"),
    [
        ({"keyset_digest": Digest.of(b"x")}, "keys"),
        ({"quote_digest": Digest.of(b"x")}, "quote"),
        ({"log_origin": "gateway.example/0000000000000000"}, "log origin"),
        ({"debug": "enabled"}, "dbgstat"),
        ({"gpu_evidence": Digest.of(b"x")}, "GPU evidence"),
        ({"issued_at": NOW + 86_401}, "iat"),
    ],
)
def test_receipt_with_a_claim_of_another_boot_is_rejected(
    context: dict[str, Any], named: str
) -> None:
    made = Gateway()
    made.plain(context=context)
    result = made.verify()
    refused(result, Verdict.REJECTED, "RECEIPT-BINDING")
    check = the_check(result, "RECEIPT-BINDING")
    assert named in check.expected
    assert named in check.observed


def test_receipt_may_be_sealed_in_the_keysets_last_second() -> None:
    made = Gateway()
    made.plain(context={"issued_at": made.not_after})
    assert made.verify().verdict is Verdict.SIMULATED


def test_receipts_of_a_boot_that_is_not_in_the_file_are_incomplete() -> None:
    result = HEALTHY.verify(bundle=HEALTHY.bundle(receipts=[OTHER.exchanged[0].item]))
    assert result.verdict is Verdict.INCOMPLETE
    assert open_checks(result) >= {"RECEIPT-SIGNATURE", "RECEIPT-BINDING"}
    assert "format=bundle" in the_check(result, "RECEIPT-SIGNATURE").hint


def test_lone_receipt_is_incomplete_with_a_helpful_message() -> None:
    result = HEALTHY.verify(bundle=Bundle(receipts=(HEALTHY.exchanged[0].item,)), contents={})
    assert result.verdict is Verdict.INCOMPLETE
    assert not failed(result)
    assert {"QUOTE-GENUINE", "KEYSET", "RECEIPT-SIGNATURE", "EQUIVOCATION"} <= open_checks(result)
    assert result.trust_domains == frozenset()


def test_receipt_under_the_keyset_of_another_boot_is_rejected() -> None:
    mixed = replace(OTHER.evidence, keyset=HEALTHY.keyset)
    result = OTHER.verify(bundle=OTHER.bundle(boots=[mixed]))
    assert {"KEYSET", "RECEIPT-SIGNATURE", "RECEIPT-BINDING"} <= failed(result)


# Nonce, channel, model


def test_nonce_that_is_repeated_passes() -> None:
    made = Gateway()
    made.plain(nonce="abcdefgh")
    result = known(made)
    assert result.verdict is Verdict.SIMULATED
    assert the_check(result, "NONCE").status is Status.PASS
    assert not any("freshness" in note for note in result.not_proved)


@pytest.mark.parametrize("nonce", ["abcdefgi", "ABCDEFGH", ""])
def test_nonce_that_is_not_the_callers_is_rejected(nonce: str) -> None:
    made = Gateway()
    made.plain(nonce="abcdefgh")
    refused(known(made, nonce=nonce), Verdict.REJECTED, "NONCE")


def test_receipt_without_nonce_does_not_answer_one() -> None:
    result = known(HEALTHY, nonce="abcdefgh")
    refused(result, Verdict.REJECTED, "NONCE")
    assert the_check(result, "NONCE").observed == "no nonce"


def test_nonce_of_one_receipt_says_nothing_about_another() -> None:
    made = Gateway()
    made.plain(nonce="abcdefgh")
    made.plain(nonce="ijklmnop")
    first = made.exchanged[0]
    result = made.verify(contents={first.jti: first.contents(peer_spki=TLS_SPKI)})
    assert any("freshness not proved for 1 of 2 receipts" in note for note in result.not_proved)
    assert any("channel" in note for note in result.not_proved)


def test_missing_nonce_is_open_only_if_the_policy_asks() -> None:
    assert any("freshness not proved" in note for note in HEALTHY.verify().not_proved)
    policy = HEALTHY.policy(more='[require]\nchecks = ["NONCE"]')
    assert open_checks(HEALTHY.verify(policy=policy)) == {"NONCE"}


def test_channel_is_checked_where_the_key_is_known() -> None:
    result = known(HEALTHY, peer_spki=TLS_SPKI)
    assert the_check(result, "CHANNEL").status is Status.PASS
    assert not any("channel" in note for note in result.not_proved)
    refused(known(HEALTHY, peer_spki=Digest.of(b"x")), Verdict.REJECTED, "CHANNEL")
    assert the_check(HEALTHY.verify(), "CHANNEL").status is Status.SKIP


def test_keyset_without_tls_keys_proves_no_channel() -> None:
    made = gateway(tls=())
    result = known(made, peer_spki=TLS_SPKI)
    assert result.verdict is Verdict.SIMULATED
    assert "confidentiality of the channel" in the_check(result, "CHANNEL").reason
