"""Signature, binding, nonce, channel and model of a receipt; its bodies; its place in the log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import Bundle, BundledReceipt
from attestation.encoding.digest import Digest
from attestation.encoding.jws import assemble
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from attestation.receipt.claims import End, Splice
from attestation.receipt.commitments import Openings
from attestation.receipt.outcome import Body, ModelFacts
from attestation.receipt.signing import parse_receipt, sign_receipt
from attestation.result import AttestationResult, Status, Verdict
from attestation.verifier import Contents
from tests.support.bundles import (
    ANSWER,
    FRAMES,
    NOW,
    REQUEST,
    TLS_SPKI,
    Exchanged,
    Gateway,
    failed,
    open_checks,
    the_check,
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


def known(made: Gateway, **changes: Any) -> AttestationResult:
    (exchanged,) = made.exchanged
    return made.verify(contents={exchanged.jti: exchanged.contents(**changes)})


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


def test_model_digest_must_be_the_statements() -> None:
    model = Digest.of(b"model")
    facts = ModelFacts(id="tiny", digest=model)
    made = Gateway(statement_changes={"model_digest": model})
    made.plain(model=facts)
    result = made.verify()
    assert the_check(result, "MODEL").status is Status.PASS
    assert not any("which model" in note for note in result.not_proved)
    for other in (None, Digest.of(b"other")):
        made = Gateway(statement_changes={"model_digest": other})
        made.plain(model=facts)
        refused(made.verify(), Verdict.REJECTED, "MODEL")


@pytest.mark.parametrize(
    ("attempts", "said"), [((), "no engine was asked"), (None, "does not say")]
)
def test_place_of_the_engine_is_the_gateways_word(attempts: Any, said: str) -> None:
    made = Gateway()
    if attempts is None:
        (attempt,) = made.outcome().attempts
        attempts = (replace(attempt, local=False),)
    made.plain(attempts=attempts)
    check = the_check(made.verify(), "ENGINE-LOCAL")
    assert check.status is Status.SKIP
    assert said in check.reason


# Bodies


def test_bodies_that_the_receipt_commits_to_pass() -> None:
    result = HEALTHY.verify()
    for id_ in ("REQUEST-BODY", "FORWARDED-BODY", "ENGINE-BODY", "RESPONSE-BODY"):
        assert the_check(result, id_).status is Status.PASS
    assert not any("content" in note for note in result.not_proved)


@pytest.mark.parametrize(
    ("member", "id_"), [("request", "REQUEST-BODY"), ("response", "RESPONSE-BODY")]
)
@pytest.mark.parametrize(
    "change", [lambda b: b + b" ", lambda b: b[:-1], lambda b: b[:0], lambda b: b.swapcase()]
)
def test_other_bodies_are_rejected(member: str, id_: str, change: Any) -> None:
    body = getattr(HEALTHY.exchanged[0], member)
    refused(known(HEALTHY, **{member: change(body)}), Verdict.REJECTED, id_)


def test_without_bodies_no_content_is_bound() -> None:
    result = HEALTHY.verify(contents={})
    assert result.verdict is Verdict.SIMULATED
    assert any(note.startswith("no content bound") for note in result.not_proved)
    assert the_check(result, "REQUEST-BODY").status is Status.SKIP


def test_some_bodies_are_counted() -> None:
    made = gateway()
    made.plain(request=b"{}")
    first = made.exchanged[0]
    result = made.verify(contents={first.jti: first.contents()})
    assert any(note.startswith("content of 1 of 2 receipts") for note in result.not_proved)


@pytest.mark.parametrize("member", ["request", "response"])
def test_demanded_body_that_is_missing_is_incomplete(member: str) -> None:
    result = known(HEALTHY, **{member: None})
    assert result.verdict is Verdict.INCOMPLETE
    assert not failed(result)
    lenient = known(HEALTHY, **{member: None}, demanded=frozenset())
    assert lenient.verdict is Verdict.SIMULATED


@pytest.mark.parametrize(("label", "id_"), [("req", "REQUEST-BODY"), ("res", "RESPONSE-BODY")])
def test_body_without_its_opening_is_incomplete_even_if_not_demanded(label: str, id_: str) -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    keys = {name: key for name, key in item.openings.keys.items() if name != label}
    for openings in (Openings(keys=keys), None):
        bundle = HEALTHY.bundle(receipts=[replace(item, openings=openings)])
        contents = {item.jti: HEALTHY.exchanged[0].contents(demanded=frozenset())}
        result = HEALTHY.verify(bundle=bundle, contents=contents)
        assert result.verdict is Verdict.INCOMPLETE
        assert id_ in open_checks(result)


def test_opening_of_another_receipt_is_rejected() -> None:
    item = replace(HEALTHY.exchanged[0].item, openings=OTHER.exchanged[0].item.openings)
    refused(with_item(HEALTHY, item), Verdict.REJECTED, "REQUEST-BODY", "RESPONSE-BODY")


@pytest.mark.parametrize(("label", "id_"), [("fwd", "FORWARDED-BODY"), ("eng", "ENGINE-BODY")])
def test_opening_of_a_commitment_that_is_not_made_is_rejected(label: str, id_: str) -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    openings = Openings(keys={**item.openings.keys, label: bytes(32)})
    refused(with_item(HEALTHY, replace(item, openings=openings)), Verdict.REJECTED, id_)


def test_inserted_bytes_without_a_rewrite_are_rejected() -> None:
    item = HEALTHY.exchanged[0].item
    assert item.openings is not None
    openings = replace(item.openings, inserted=(b"x",))
    refused(
        with_item(HEALTHY, replace(item, openings=openings)), Verdict.REJECTED, "FORWARDED-BODY"
    )


def test_request_that_was_not_read_to_its_end_is_bound_as_far_as_it_was() -> None:
    made = Gateway()
    part = REQUEST[:20]
    body = Body(digest=Digest.of(part), length=len(part))
    made.plain(request_partial=True, request=REQUEST)
    exchanged = made.exchanged.pop()
    item = made.seal(made.outcome(request=part, request_partial=True, end=End.LIMIT))
    made.exchanged.append(replace(exchanged, item=item))
    assert item.receipt.claims.request.length == body.length
    result = known(made)
    assert result.verdict is Verdict.SIMULATED
    assert "first 20 bytes" in the_check(result, "REQUEST-BODY").reason
    refused(known(made, request=REQUEST[:19]), Verdict.REJECTED, "REQUEST-BODY")


INSERTED = b',"cache_salt":"s"'


def spliced(**changes: Any) -> Gateway:
    made = Gateway()
    at = len(REQUEST) - 1
    forwarded = REQUEST[:at] + INSERTED + REQUEST[at:]
    values: dict[str, Any] = {
        "forwarded": Body(digest=Digest.of(forwarded), length=len(forwarded)),
        "splices": (Splice(code="cache_salt", offset=at, deleted=0, inserted=len(INSERTED)),),
        "inserted": (INSERTED,),
    }
    made.plain(**values | changes)
    return made


def test_forwarded_body_is_rebuilt_from_the_rewrites() -> None:
    result = spliced().verify()
    assert result.verdict is Verdict.SIMULATED
    assert "cache_salt" in the_check(result, "FORWARDED-BODY").reason


def test_rewrite_that_leads_to_another_body_is_rejected() -> None:
    wrong = (Splice(code="cache_salt", offset=3, deleted=0, inserted=len(INSERTED)),)
    refused(spliced(splices=wrong).verify(), Verdict.REJECTED, "FORWARDED-BODY")
    outside = (Splice(code="cache_salt", offset=900, deleted=0, inserted=len(INSERTED)),)
    refused(spliced(splices=outside).verify(), Verdict.REJECTED, "FORWARDED-BODY")


def opened(made: Gateway, openings: Openings) -> AttestationResult:
    return with_item(made, replace(made.exchanged[0].item, openings=openings))


def test_forwarded_body_needs_its_opening_the_inserted_bytes_and_the_request() -> None:
    made = spliced()
    openings = made.exchanged[0].item.openings
    assert openings is not None
    unopened = {name: key for name, key in openings.keys.items() if name != "fwd"}
    assert open_checks(opened(made, replace(openings, keys=unopened))) == {"FORWARDED-BODY"}
    assert open_checks(opened(made, replace(openings, inserted=()))) == {"FORWARDED-BODY"}
    assert open_checks(known(made, request=None)) == {"REQUEST-BODY", "FORWARDED-BODY"}
    refused(opened(made, replace(openings, inserted=(b"x",))), Verdict.REJECTED, "FORWARDED-BODY")


@pytest.mark.parametrize(
    ("end", "decision", "forwarded", "delivered"),
    [
        (End.COMPLETE, "allow", Status.PASS, Status.PASS),
        (End.CLIENT_ABORT, "allow", Status.PASS, Status.PASS),
        (End.UPSTREAM_ERROR, "allow", Status.PASS, Status.INFO),
        (End.TIMEOUT, "allow", Status.PASS, Status.INFO),
        (End.REFUSED, "refused_store", Status.INFO, Status.INFO),
        (End.GATEWAY_FAILURE, "undecided", Status.INFO, Status.INFO),
    ],
)
def test_gateways_own_answer_never_passes_for_the_engines(
    end: End, decision: str, forwarded: Status, delivered: Status
) -> None:
    made = Gateway()
    made.plain(end=end, decision=decision)
    result = known(made, demanded=frozenset({"FORWARDED-BODY", "ENGINE-BODY"}))
    assert result.verdict is Verdict.SIMULATED
    assert the_check(result, "FORWARDED-BODY").status is forwarded
    assert the_check(result, "ENGINE-BODY").status is delivered


def test_engines_own_bytes_are_checked_where_they_are_known() -> None:
    made = Gateway()
    made.plain(engine=ANSWER + b"tail")
    assert known(made).verdict is Verdict.SIMULATED
    assert the_check(known(made), "ENGINE-BODY").status is Status.PASS
    refused(known(made, engine=ANSWER), Verdict.REJECTED, "ENGINE-BODY")
    assert open_checks(known(made, engine=None)) == {"ENGINE-BODY"}
    assert known(made, engine=None, demanded=frozenset()).verdict is Verdict.SIMULATED


def stream(**changes: Any) -> tuple[Gateway, Exchanged]:
    made = Gateway()
    return made, made.stream(**changes)


def test_in_band_block_is_removed_exactly_where_it_stands() -> None:
    made, exchanged = stream()
    result = made.verify()
    assert result.verdict is Verdict.SIMULATED
    assert f"block at {len(FRAMES[0])}" in the_check(result, "RESPONSE-BODY").reason
    assert b": receipt " in exchanged.response


def test_stream_without_its_block_is_rejected() -> None:
    made, _ = stream()
    result = known(made, response=b"".join(FRAMES))
    refused(result, Verdict.REJECTED, "RESPONSE-BODY")
    assert "block" in the_check(result, "RESPONSE-BODY").hint


def test_block_that_withheld_openings_cannot_rebuild_has_to_be_taken_out() -> None:
    made, exchanged = stream()
    openings = exchanged.item.openings
    assert openings is not None
    item = replace(exchanged.item, openings=Openings(keys={"res": openings.keys["res"]}))
    bundle = made.bundle(receipts=[item])
    for response, status in ((b"".join(FRAMES), Status.PASS), (exchanged.response, Status.FAIL)):
        contents = {item.jti: Contents(response=response)}
        check = the_check(made.verify(bundle=bundle, contents=contents), "RESPONSE-BODY")
        assert check.status is status


def test_every_byte_of_the_block_counts() -> None:
    made, exchanged = stream()
    start = len(FRAMES[0])
    end = len(exchanged.response) - len(FRAMES[1])
    for place in {start, start + 12, end - 40, end - 1}:
        body = bytearray(exchanged.response)
        body[place] ^= 1
        refused(known(made, response=bytes(body)), Verdict.REJECTED, "RESPONSE-BODY")


def test_block_elsewhere_or_twice_is_rejected() -> None:
    made, exchanged = stream()
    body, start = exchanged.response, len(FRAMES[0])
    block = body[start : len(body) - len(FRAMES[1])]
    plain = b"".join(FRAMES)
    for moved in (block + plain, plain + block, body[:start] + block + body[start:]):
        refused(known(made, response=moved), Verdict.REJECTED, "RESPONSE-BODY")


def test_stream_without_openings_cannot_be_bound() -> None:
    made, exchanged = stream()
    result = with_item(made, replace(exchanged.item, openings=None))
    assert result.verdict is Verdict.INCOMPLETE
    assert "RESPONSE-BODY" in open_checks(result)


def gateway_failure() -> tuple[Gateway, Exchanged]:
    made = Gateway()
    outcome = replace(
        made.outcome(),
        request=None,
        response=None,
        end=End.GATEWAY_FAILURE,
        status=None,
        response_type=None,
    )
    exchanged = Exchanged(item=made.seal(outcome), request=REQUEST, response=ANSWER)
    made.exchanged.append(exchanged)
    return made, exchanged


def test_receipt_that_commits_to_no_body_cannot_bind_one() -> None:
    made, _ = gateway_failure()
    result = known(made)
    assert result.verdict is Verdict.INCOMPLETE
    assert {"REQUEST-BODY", "RESPONSE-BODY"} <= open_checks(result)
    assert made.verify(contents={}).verdict is Verdict.SIMULATED


@pytest.mark.parametrize(("label", "id_"), [("req", "REQUEST-BODY"), ("res", "RESPONSE-BODY")])
def test_openings_of_a_receipt_that_commits_to_no_body_are_rejected(label: str, id_: str) -> None:
    made, exchanged = gateway_failure()
    item = replace(exchanged.item, openings=Openings(keys={label: bytes(32)}))
    result = made.verify(bundle=made.bundle(receipts=[item]), contents={})
    refused(result, Verdict.REJECTED, id_)


# Log


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
        ({"admission": 1}, "admission"),
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


def test_contents_do_not_show_in_a_repr() -> None:
    contents = Contents(request=b"prompt", response=b"answer", engine=b"engine")
    assert "prompt" not in repr(contents)
    assert "answer" not in repr(contents)
    assert "engine'" not in repr(contents)
