"""Checks that another one would hide: each is the only thing between a forgery and a pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attestation.bundle import make_bundle
from attestation.encoding import base64std
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.tlog_proof import parse_tlog_proof, render
from attestation.receipt.outcome import Body
from attestation.result import AttestationResult, Check, Status, Verdict
from attestation.statement import ChallengeStatement, nonce_root
from attestation.tdx.quote import parse_quote
from attestation.verifier import ChallengeEvidence, verify_challenge
from attestation.verifier.appraisal import Appraised, Standing
from attestation.verifier.grounds import Grounds
from attestation.verifier.running import grounds_of
from tests.support.bundles import ANSWER, NOW, REQUEST, Exchanged, Gateway, failed, open_checks
from tests.support.epochs import COMPLETE, EpochLog, quoted_by
from tests.verifier.support import gateway

LOOSE = "require_anchored = false"
NONCE = b"\x5a" * 32


def history(rounds: int = 3) -> EpochLog:
    log = EpochLog(Gateway())
    for _ in range(rounds):
        log.serve(2)
        log.quote_epoch()
    return log


def checks(result: AttestationResult, id_: str) -> list[Check]:
    return [check for check in result.checks if check.id == id_]


# Bodies


def answered(request: Body, response: Body) -> tuple[Gateway, Exchanged]:
    made = Gateway()
    made.plain()
    outcome = made.outcome(request=REQUEST, response=ANSWER)
    stated = replace(outcome, request=request, response=response)
    item = made.seal(stated, index=2, admission=1)
    made.exchanged[:] = [Exchanged(item=item, request=REQUEST, response=ANSWER)]
    return made, made.exchanged[0]


@pytest.mark.parametrize(("request_by", "response_by"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_body_that_is_committed_to_and_not_as_long_as_stated_is_rejected_once(
    request_by: int, response_by: int
) -> None:
    made, _ = answered(
        Body(digest=Digest.of(REQUEST), length=len(REQUEST) + request_by),
        Body(digest=Digest.of(ANSWER), length=len(ANSWER) + response_by),
    )
    result = made.verify()
    wrong = "REQUEST-BODY" if request_by else "RESPONSE-BODY"
    assert failed(result) == {wrong}
    (check,) = checks(result, wrong)
    assert "as long as" in check.reason


@pytest.mark.parametrize(
    ("member", "wrong", "dependent"),
    [("request", "REQUEST-BODY", "FORWARDED-BODY"), ("response", "RESPONSE-BODY", "ENGINE-BODY")],
)
@pytest.mark.parametrize("by", [b"", b" "])
def test_body_that_is_not_bound_binds_nothing_else(
    member: str, wrong: str, dependent: str, by: bytes
) -> None:
    made = gateway()
    (exchanged,) = made.exchanged
    body = getattr(exchanged, member).swapcase() + by
    result = made.verify(contents={exchanged.jti: exchanged.contents(**{member: body})})
    assert failed(result) == {wrong}
    assert [check.status for check in checks(result, dependent)] == [Status.SKIP]


def test_body_that_was_not_given_binds_nothing_else() -> None:
    made = gateway()
    (exchanged,) = made.exchanged
    result = made.verify(contents={exchanged.jti: exchanged.contents(request=None, response=None)})
    assert [check.status for check in checks(result, "FORWARDED-BODY")] == [Status.SKIP]
    assert [check.status for check in checks(result, "ENGINE-BODY")] == [Status.SKIP]


# The log


def test_line_by_another_signer_with_the_same_key_id_is_another_signature() -> None:
    made = gateway()
    made.anchored()
    (exchanged,) = made.exchanged
    assert exchanged.item.proof is not None
    proof = parse_tlog_proof(exchanged.item.proof)
    own = proof.note.splitlines()[-1].split(" ")[2]
    key_id = base64std.decode(own, what="a signature")[:4]
    line = f"\u2014 witness {base64std.encode(key_id + bytes(64))}\n"
    item = replace(exchanged.item, proof=render(replace(proof, note=proof.note + line)))
    result = made.verify(bundle=made.bundle(receipts=[item]))
    assert result.verdict is Verdict.SIMULATED
    assert [check.status for check in checks(result, "WITNESS")] == [Status.INFO]


def test_completed_receipts_never_become_fewer() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    log.quote_epoch()
    log.quote_epoch(completed=1, in_flight=1)
    result = log.verify(log=LOOSE, receipts=[], contents={})
    (check,) = [one for one in checks(result, "EPOCH-CHAIN") if one.status is Status.FAIL]
    assert check.observed == "completed 1"


def test_log_without_its_first_epoch_is_open_and_accuses_nobody() -> None:
    log = history()
    result = log.verify(epochs=log.epochs[1:], log=COMPLETE, contents={})
    assert failed(result) == set()
    assert result.verdict is Verdict.INCOMPLETE
    assert "EPOCH-CHAIN" in open_checks(result)


def test_log_whose_leaves_make_another_tree_is_not_complete() -> None:
    log = EpochLog(Gateway())
    log.serve(2)
    other = Checkpoint(origin=log.made.origin, size=3, root=Digest.of(b"another tree").value)
    log.quote_epoch(checkpoint=other)
    items = [replace(item, proof=None) for item in log.items]
    result = log.verify(log=COMPLETE, receipts=items)
    assert failed(result) == {"EQUIVOCATION"}
    (check,) = [c for c in checks(result, "EPOCH-CHAIN") if c.subject.startswith("log of ")]
    assert check.status is Status.SKIP


# Challenges and roots


def challenged(log: EpochLog, quote: bytes | None = None, **changes: Any) -> AttestationResult:
    """The answer of a boot whose epochs are known; `changes` are of its statement."""
    made, checkpoint = log.made, log.checkpoint()
    stated = ChallengeStatement(
        bootseed=made.bootseed,
        boot_quote_digest=made.quote_digest,
        keyset_digest=made.keyset.digest,
        nonce_root=nonce_root([NONCE]),
        size=checkpoint.size,
        root=Digest(checkpoint.root),
    )
    statement = replace(stated, **changes)
    given = quote or quoted_by(made, statement.report_data)
    challenge = ChallengeEvidence(statement=statement, quote=given, index=0, count=1, path=())
    bundle = make_bundle(
        boots=[made.evidence], collateral=[made.machine.collateral()], epochs=log.epochs
    )
    anchors = [made.anchor]
    return verify_challenge(bundle, challenge, NONCE, made.policy(), NOW + 60, anchors)


def forked_root(log: EpochLog) -> dict[str, Any]:
    said = log.epochs[-1].statement
    return {"size": said.size, "root": Digest.of(b"another tree")}


def test_genuine_answer_over_another_tree_is_equivocation() -> None:
    log = history(1)
    assert failed(challenged(log)) == set()
    assert failed(challenged(log, **forked_root(log))) == {"EQUIVOCATION"}


def test_answer_that_is_not_genuine_accuses_nobody() -> None:
    log = history(1)
    plain = challenged(log, **forked_root(log))
    assert failed(plain) == {"EQUIVOCATION"}
    statement = ChallengeStatement(
        bootseed=log.made.bootseed,
        boot_quote_digest=log.made.quote_digest,
        keyset_digest=log.made.keyset.digest,
        nonce_root=nonce_root([NONCE]),
        size=log.epochs[-1].statement.size,
        root=Digest.of(b"another tree"),
    )
    quote = bytearray(quoted_by(log.made, statement.report_data))
    # One bit of the attestation key's signature over the report.
    quote[640] ^= 1
    result = challenged(log, bytes(quote), **forked_root(log))
    assert failed(result) == {"QUOTE-GENUINE"}


def test_later_quotes_of_a_boot_are_judged_under_its_own_root_alone() -> None:
    made, other = Gateway(), Gateway(seed="b")
    grounds = Grounds(policy=made.policy(), at=NOW, anchors=(other.anchor, made.anchor))
    known = Appraised(boot=made.evidence, quote=None, genuine=None, standing=Standing.REFUTED)
    assert grounds_of(known, grounds) == grounds
    read = replace(known, quote=parse_quote(made.evidence.quote))
    assert grounds_of(read, grounds).anchors == (made.anchor,)


# Evidence that this version does not check


def test_gpu_evidence_leaves_three_checks_open_by_their_names() -> None:
    made = gateway()
    made.evidence = replace(made.evidence, gpu=({"kind": "any"},))
    result = made.verify()
    left = {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"}
    assert open_checks(result) == left
    titles = {check.id: check.title for check in result.checks if check.id in left}
    assert titles.keys() == left
    assert all(titles.values())
