"""The place of a receipt in the log, and equivocation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import Bundle
from attestation.encoding.jws import assemble
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from attestation.receipt.signing import parse_receipt
from attestation.result import AttestationResult, Status, Verdict
from tests.support.bundles import (
    Gateway,
    failed,
    open_checks,
    the_check,
)
from tests.verifier.support import HEALTHY, OTHER, gateway, refused


def anchored() -> Gateway:
    made = gateway()
    made.plain(request=b"{}")
    made.anchored()
    return made


def with_proof(made: Gateway, proof: str | None) -> AttestationResult:
    items = [exchanged.item for exchanged in made.exchanged]
    return made.verify(bundle=made.bundle(receipts=[replace(items[0], proof=proof), items[1]]))


def test_proof_to_a_signed_checkpoint_passes() -> None:
    result = anchored().verify()
    assert result.verdict is Verdict.SIMULATED
    for id_ in ("LOG-INCLUSION", "LOG-CHECKPOINT"):
        assert the_check(result, id_).status is Status.PASS


def test_unanchored_receipts_are_incomplete_by_default() -> None:
    made = anchored()
    policy = made.policy(log="")
    assert open_checks(HEALTHY.verify(policy=HEALTHY.policy(log=""))) == {
        "LOG-INCLUSION",
        "LOG-CHECKPOINT",
        "EPOCH-QUOTE",
    }
    assert open_checks(made.verify(policy=policy)) == {"EPOCH-QUOTE"}
    result = made.verify()
    assert any("2 of 2 receipts are not anchored" in note for note in result.not_proved)


def test_receipt_without_proof_is_told_that_it_may_never_get_one() -> None:
    check = the_check(HEALTHY.verify(policy=HEALTHY.policy(log="")), "LOG-INCLUSION")
    assert "wait=anchored" in check.hint
    assert "`unanchored-final` never will be" in check.hint


def test_proof_of_another_receipt_is_rejected() -> None:
    made = anchored()
    result = with_proof(made, made.exchanged[1].item.proof)
    refused(result, Verdict.REJECTED, "LOG-INCLUSION")


def test_proof_for_another_index_is_rejected() -> None:
    made = Gateway()
    made.plain(context={"index": 2})
    made.anchored()
    refused(made.verify(), Verdict.REJECTED, "LOG-INCLUSION")
    assert the_check(made.verify(), "LOG-INCLUSION").observed == "index 1"


def test_checkpoint_by_another_key_is_rejected() -> None:
    made = anchored()
    proof = parse_tlog_proof(made.exchanged[0].item.proof or "")
    text = proof.note[: proof.note.index("\n\n") + 1]
    forged = replace(proof, note=sign_note(text, made.origin, OTHER.log_key))
    result = with_proof(made, render(forged))
    refused(result, Verdict.REJECTED, "LOG-CHECKPOINT")
    assert "LOG-INCLUSION" not in failed(result)


def test_checkpoint_of_another_log_is_rejected() -> None:
    made = anchored()
    proof = parse_tlog_proof(made.exchanged[0].item.proof or "")
    text = Checkpoint(origin="other", size=3, root=bytes(32)).text
    forged = replace(proof, note=sign_note(text, made.origin, made.log_key))
    refused(with_proof(made, render(forged)), Verdict.REJECTED, "LOG-CHECKPOINT")


def test_proof_without_its_boot_is_left_open() -> None:
    made = anchored()
    result = made.verify(bundle=Bundle(receipts=made.bundle().receipts))
    assert result.verdict is Verdict.INCOMPLETE
    assert the_check(result, "LOG-INCLUSION").status is Status.SKIP


@pytest.mark.parametrize(
    ("context", "what"),
    [
        ({"index": 1}, "index"),
        ({"admission": 0}, "admission"),
    ],
)
def test_two_receipts_in_one_place_are_equivocation(context: dict[str, Any], what: str) -> None:
    made = gateway()
    made.plain(request=b"{}", context=context)
    result = made.verify()
    refused(result, Verdict.REJECTED, "EQUIVOCATION")
    assert f"one {what}" in the_check(result, "EQUIVOCATION").reason


def test_two_receipts_of_one_id_are_equivocation() -> None:
    made = gateway()
    made.plain(request=b"{}", jti=made.exchanged[0].jti)
    refused(made.verify(contents={}), Verdict.REJECTED, "EQUIVOCATION")


def test_receipts_of_two_boots_do_not_contradict_each_other() -> None:
    first, second = Gateway(seed="a"), Gateway(seed="b", platform=HEALTHY.machine)
    first.plain()
    second.plain()
    bundle = first.bundle(
        boots=[first.evidence, second.evidence],
        collateral=[first.machine.collateral(), second.machine.collateral()],
        receipts=[first.exchanged[0].item, second.exchanged[0].item],
    )
    result = first.verify(bundle=bundle, anchors=[first.anchor, second.anchor])
    assert result.verdict is Verdict.SIMULATED


def test_two_roots_for_one_size_are_equivocation() -> None:
    made = anchored()
    first = made.exchanged[0].item
    made.exchanged[0] = replace(made.exchanged[0], item=replace(first, proof=None))
    kept = made.exchanged[1]
    made.exchanged = [
        replace(made.exchanged[0], item=made.seal(made.outcome(request=b"[]"), index=1)),
        kept,
    ]
    made.anchored()
    made.exchanged[1] = kept
    result = made.verify(contents={})
    refused(result, Verdict.REJECTED, "EQUIVOCATION")
    assert "one checkpoint" in the_check(result, "EQUIVOCATION").reason


def test_forged_receipt_does_not_make_the_gateway_an_equivocator() -> None:
    made = gateway()
    forged = made.seal(made.outcome(request=b"x"), index=1)
    receipt = parse_receipt(assemble(forged.receipt.jws.signing_input, bytes(64)))
    items = [made.exchanged[0].item, replace(forged, receipt=receipt)]
    result = made.verify(bundle=made.bundle(receipts=items), contents={})
    refused(result, Verdict.REJECTED, "RECEIPT-SIGNATURE")
