"""What a session remembers of endorsements, and that older ones are refused by it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.cli.high_water import HighWaterFile
from attestation.errors import PolicyError
from attestation.result import Check, Verdict
from attestation.tdx.endorsed import SignedPart
from attestation.verifier import HighWater, parse_high_water
from gateway.client.endpoint import parse_endpoint
from gateway.client.evidence import Evidence, check_channel, fetch_challenge, fetch_evidence
from gateway.client.judge import EvidenceJudge
from gateway.client.session import Session
from tests.client.test_session import post
from tests.support.gateways import Stack


def seen_by(stack: Stack) -> tuple[Evidence, Check]:
    endpoint = parse_endpoint(stack.gateway.url)
    evidence = fetch_evidence(endpoint)
    return evidence, check_channel(endpoint, evidence.peer, evidence.boot.keyset.tls_spki)


def test_a_session_remembers_what_it_saw_and_judges_by_what_was_known_before(
    stack: Stack, tmp_path: Path
) -> None:
    trust = replace(stack.trust, high_water=tmp_path / "seen")
    session = Session.connect(stack.gateway.url, trust)
    (entry,) = parse_high_water((tmp_path / "seen").read_bytes()).seen.values()
    higher = SignedPart(number=entry.tcb_info.number + 1, issued=entry.tcb_info.issued)
    HighWaterFile(str(tmp_path / "seen")).raise_by([replace(entry, tcb_info=higher)])
    post(session, stack.gateway.key)
    assert session.challenge().verdict is Verdict.SIMULATED
    (known,) = parse_high_water((tmp_path / "seen").read_bytes()).seen.values()
    assert known.tcb_info == higher
    with pytest.raises(PolicyError, match="rolled back"):
        Session.connect(stack.gateway.url, trust)


def test_every_judgement_of_a_session_is_held_against_the_mark(
    stack: Stack, tmp_path: Path
) -> None:
    """Epochs and answers to nonces bring quotes of their own."""
    evidence, channel = seen_by(stack)
    session = stack.session()
    post(session, stack.gateway.key)
    session.anchor(seconds=60)
    (entry,) = session.result.endorsed
    higher = SignedPart(number=entry.tcb_info.number + 1, issued=entry.tcb_info.issued)
    mark = HighWater().raised([replace(entry, tcb_info=higher)])
    (tmp_path / "seen").write_bytes(mark.encode())
    trust = replace(stack.trust, high_water=tmp_path / "seen")
    judge = EvidenceJudge(evidence, channel, trust, time.time)
    nonce = bytes(32)
    answer = fetch_challenge(parse_endpoint(stack.gateway.url), nonce, session.tls_context())
    with pytest.raises(PolicyError, match="rolled back"):
        judge.judge(session.calls[0])
    with pytest.raises(PolicyError, match="rolled back"):
        judge.judge_record(session.calls)
    with pytest.raises(PolicyError, match="rolled back"):
        judge.judge_challenge(answer, nonce)


def test_newer_endorsements_of_a_challenge_or_a_call_are_remembered(
    stack: Stack, tmp_path: Path
) -> None:
    evidence, channel = seen_by(stack)
    session = stack.session()
    post(session, stack.gateway.key)
    trust = replace(stack.trust, high_water=tmp_path / "seen")
    nonce = bytes(32)
    answer = fetch_challenge(parse_endpoint(stack.gateway.url), nonce, session.tls_context())

    def remembered() -> int:
        return len(parse_high_water((tmp_path / "seen").read_bytes()).seen)

    def judging_anew() -> EvidenceJudge:
        (tmp_path / "seen").unlink(missing_ok=True)
        judge = EvidenceJudge(evidence, channel, trust, time.time)
        assert remembered() == 0
        return judge

    judging_anew().judge(session.calls[0])
    assert remembered() == 1
    judging_anew().judge_challenge(answer, nonce)
    assert remembered() == 1
