"""Waiting for the log's quote: what is taken, what is refused, what is left as it was and said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from attestation.bundle import parse_bundle
from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, EvidenceError, MalformedError
from attestation.receipt.commitments import Openings
from attestation.result import Status, Verdict
from gateway.client.session import Session
from gateway.engine.scripted import Close, Script
from tests.client.paper import (
    KEY,
    Paper,
    Step,
    anchored,
    assembled,
    bundle_script,
    dropped,
    epoch_over,
    error_script,
    final,
    listening,
    sealed,
)
from tests.support.bundles import CHAT, Gateway
from tests.support.serving import wait_until

BODY = json.dumps({"model": "tiny", "messages": []}).encode()


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def address(paper: Paper) -> Iterator[str]:
    with listening(paper) as url:
        yield url


def ask(session: Session, times: int = 1, key: str = KEY) -> None:
    with session.http_client(base_url=session.origin) as client:
        for _ in range(times):
            client.post(CHAT, content=BODY, headers={"authorization": f"Bearer {key}"})


def passed(session: Session, number: int = 0) -> set[str]:
    result = session.calls[number].result
    assert result is not None
    return {check.id for check in result.checks if check.status is Status.PASS}


ANCHORING = {"LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE"}


def test_a_live_answer_is_checked_for_everything_but_anchoring_and_says_so(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session)
    (call,) = session.calls
    assert call.verdict is Verdict.INCOMPLETE
    assert not call.anchored
    assert session.unanchored == (call,)
    assert passed(session) >= {"NONCE", "REQUEST-BODY", "RESPONSE-BODY", "RECEIPT-SIGNATURE"}
    assert not passed(session) & ANCHORING
    assert call.result is not None
    assert any("not anchored" in note for note in call.result.not_proved)
    assert not paper.asked


def test_anchoring_verifies_every_receipt_with_the_epoch_that_anchors_it(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session, times=3)
    report = session.anchor(seconds=30)
    assert (report.anchored, report.complete, dict(report.left)) == (3, True, {})
    assert session.unanchored == ()
    for number, call in enumerate(session.calls):
        assert call.anchored
        assert call.verdict is Verdict.SIMULATED
        assert passed(session, number) >= ANCHORING
    session.anchor(seconds=30)
    assert len(paper.asked) == 3


def test_each_receipt_is_fetched_with_the_key_its_call_was_made_with(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session, key="ag-one")
    ask(session, key="ag-two")
    session.anchor(seconds=30)
    seen = {(request.target[13:45], request.header("authorization")) for request in paper.asked}
    keys = ("Bearer ag-one", "Bearer ag-two")
    assert seen == {(c.receipt_id, key) for c, key in zip(session.calls, keys, strict=True)}
    assert all(key not in repr(session.calls) for key in ("ag-one", "ag-two"))


async def test_the_same_goes_without_blocking(paper: Paper, address: str) -> None:
    session = await asyncio.to_thread(paper.session, address)
    await asyncio.to_thread(ask, session, 2)
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    report = await session.async_anchor(seconds=30)
    ticking.cancel()
    assert report.complete
    assert turns > 2


async def test_blocking_code_inside_a_running_loop_can_anchor_too(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session)
    assert session.anchor(seconds=30).complete


def test_what_is_exported_is_the_anchored_bundle(
    paper: Paper, address: str, tmp_path: Path
) -> None:
    session = paper.session(address)
    ask(session, times=2)
    bundle = parse_bundle(session.export(tmp_path / "run", seconds=30).read_bytes())
    assert len(bundle.epochs) == 1
    assert all(item.proof and item.openings for item in bundle.receipts)
    assert session.unanchored == ()
    result = paper.gateway.verify(bundle=bundle, policy=paper.trust().policy, contents={})
    assert result.verdict is Verdict.SIMULATED


def test_an_export_that_must_not_wait_writes_what_there_is(
    paper: Paper, address: str, tmp_path: Path
) -> None:
    session = paper.session(address)
    ask(session)
    bundle = parse_bundle(session.export(tmp_path / "run", seconds=0).read_bytes())
    assert not paper.asked
    assert [item.proof for item in bundle.receipts] == [None]
    assert len(session.unanchored) == 1


def running(_paper: Paper, _jti: str) -> Script:
    return error_script(202, retry_after="0")


def busy(_paper: Paper, _jti: str) -> Script:
    return error_script(503, retry_after="0")


@pytest.mark.parametrize("first", [running, sealed, busy, dropped], ids=lambda one: one.__name__)
def test_what_may_get_better_is_asked_for_again(paper: Paper, address: str, first: Step) -> None:
    session = paper.session(address)
    ask(session)
    paper.steps = [first, first]
    assert session.anchor(seconds=30).complete
    assert len(paper.asked) == 3


def gone(_paper: Paper, _jti: str) -> Script:
    return error_script(503, retry_after="0", x_should_retry="false")


def denied(_paper: Paper, _jti: str) -> Script:
    return error_script(404)


def broken(_paper: Paper, _jti: str) -> Script:
    return error_script(500)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (final, "never be anchored"),
        (gone, "boot of the gateway has ended"),
        (denied, "no such receipt for this key (status 404)"),
        (broken, "status 500"),
    ],
)
def test_what_will_not_get_better_is_left_as_it_was_and_said(
    paper: Paper, address: str, step: Step, reason: str
) -> None:
    session = paper.session(address)
    ask(session)
    before = session.calls
    paper.steps = [step]
    report = session.anchor(seconds=30)
    assert not report.complete
    assert report.anchored == 0
    assert reason in report.left[before[0].receipt_id or ""]
    assert [(call.verdict, call.anchored) for call in session.calls] == [
        (Verdict.INCOMPLETE, False)
    ]
    assert session.recorder.failure is None
    assert len(paper.asked) == 1


def test_a_gateway_that_never_quotes_its_log_is_given_up_when_the_time_is_over(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session)
    paper.steps = [sealed] * 10_000
    report = session.anchor(seconds=0.5)
    assert list(report.left.values()) == ["not yet, after 0.5 s"]


def endless(_paper: Paper, _jti: str) -> Script:
    return Script(writes=(b"{",), close=Close.HANG)


def test_an_answer_that_never_ends_is_given_up_when_the_time_is_over(
    paper: Paper, address: str
) -> None:
    session = paper.session(address)
    ask(session)
    paper.steps = [endless]
    report = session.anchor(seconds=0.5)
    assert list(report.left.values()) == ["not yet, after 0.5 s"]


def test_a_lost_gateway_is_asked_for_one_receipt_only_as_often_as_it_takes_to_know(
    paper: Paper,
) -> None:
    with listening(paper) as url:
        session = paper.session(url)
        ask(session, times=30)
    report = session.anchor(seconds=60)
    assert report.anchored == 0
    assert set(report.left.values()) == {"the gateway cannot be reached (ConnectError)"}
    assert len(report.left) == 30


def test_at_most_eight_receipts_are_asked_for_at_once(paper: Paper) -> None:
    with ThreadPoolExecutor(1) as pool:
        with listening(paper) as url:
            session = paper.session(url)
            ask(session, times=20)
            paper.steps = [endless] * 20
            anchoring = pool.submit(session.anchor, seconds=120)
            wait_until(lambda: len(paper.asked) >= 8)
            # None of them ever ends.  A ninth would come with them: it is given a moment to.
            time.sleep(0.2)
            assert len(paper.asked) == 8
        assert len(anchoring.result().left) == 20


def other_epoch_quote(paper: Paper, jti: str) -> Script:
    epoch, item = paper.part(jti)
    at = epoch.quote.index(epoch.statement.report_data)
    quote = epoch.quote[:at] + bytes([epoch.quote[at] ^ 1]) + epoch.quote[at + 1 :]
    return bundle_script(assembled(paper, item, replace(epoch, quote=quote)))


def other_root(paper: Paper, jti: str) -> Script:
    epoch, item = paper.part(jti)
    statement = replace(epoch.statement, root=Digest.of(b"another"))
    return bundle_script(assembled(paper, item, replace(epoch, statement=statement)))


def other_proof(paper: Paper, jti: str) -> Script:
    epoch, item = paper.part(jti)
    assert item.proof is not None
    lines = item.proof.split("\n")
    lines[2] = ("A" if lines[2][0] != "A" else "B") + lines[2][1:]
    return bundle_script(assembled(paper, replace(item, proof="\n".join(lines)), epoch))


def no_epoch(paper: Paper, jti: str) -> Script:
    _, item = paper.part(jti)
    return bundle_script(assembled(paper, item))


def another_receipt(paper: Paper, jti: str) -> Script:
    other = next(one for one in paper.gateway.exchanged if one.jti != jti)
    epoch, item = paper.part(other.jti)
    return bundle_script(assembled(paper, item, epoch))


def another_boot(paper: Paper, jti: str) -> Script:
    epoch, item = paper.part(jti)
    other = Paper(gateway=Gateway(seed="other", tls=()))
    return bundle_script(assembled(other, item, epoch))


def garbage(paper: Paper, jti: str) -> Script:
    return replace(anchored(paper, jti), writes=(b"{}",))


def flood(paper: Paper, jti: str) -> Script:
    return replace(anchored(paper, jti), writes=(b" " * (5 << 20),))


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        (other_epoch_quote, EvidenceError, "QUOTE|EPOCH"),
        (other_root, EvidenceError, "EPOCH"),
        (other_proof, EvidenceError, "LOG-INCLUSION"),
        (another_receipt, EvidenceError, "not about this receipt"),
        (another_boot, EvidenceError, "not about this receipt"),
        (garbage, MalformedError, "bundle"),
        (flood, MalformedError, "too large"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_evidence_that_does_not_hold_ends_the_session_and_changes_no_call(
    paper: Paper, address: str, step: Step, error: type[AttestationError], words: str
) -> None:
    session = paper.session(address)
    ask(session, times=2)
    before = session.calls
    paper.steps = [step, step]
    with pytest.raises(error, match=words):
        session.anchor(seconds=30)
    assert session.calls == before
    with pytest.raises(EvidenceError, match="this session has ended"):
        session.anchor(seconds=30)
    with pytest.raises(EvidenceError, match="this session has ended"):
        ask(session)


def test_two_histories_that_hold_each_by_itself_are_noticed_together_and_the_record_proves_it(
    paper: Paper, address: str, tmp_path: Path
) -> None:
    def split(one: Paper, jti: str) -> Script:
        number = one.item(jti).receipt.claims.log.index
        # Whoever asks is shown a log in which the other one's receipt is another.
        epoch, items = epoch_over(one.gateway, forge=3 - number)
        return bundle_script(assembled(one, items[number - 1], epoch))

    session = paper.session(address)
    ask(session, times=2)
    paper.steps = [split, split]
    with pytest.raises(EvidenceError, match="EQUIVOCATION"):
        session.anchor(seconds=30)
    with pytest.raises(EvidenceError, match="this session has ended"):
        ask(session)
    bundle = parse_bundle(session.export(tmp_path / "run").read_bytes())
    assert len(bundle.epochs) == 2
    result = paper.gateway.verify(bundle=bundle, policy=paper.trust().policy, contents={})
    assert result.verdict is Verdict.REJECTED
    assert "EQUIVOCATION" in {c.id for c in result.checks if c.status is Status.FAIL}


def test_the_record_of_a_session_that_ended_can_still_be_written_and_asks_for_nothing(
    paper: Paper, address: str, tmp_path: Path
) -> None:
    session = paper.session(address)
    ask(session)
    paper.steps = [other_proof]
    with pytest.raises(EvidenceError):
        session.anchor(seconds=30)
    asked = len(paper.asked)
    session.export(tmp_path / "run")
    assert len(paper.asked) == asked


def test_a_proof_without_its_epoch_anchors_nothing(paper: Paper, address: str) -> None:
    session = paper.session(address)
    ask(session)
    paper.steps = [no_epoch]
    assert session.anchor(seconds=30).complete
    assert len(paper.asked) == 2


def test_openings_that_came_with_the_answer_are_kept(paper: Paper, address: str) -> None:
    def bare(one: Paper, jti: str) -> Script:
        epoch, item = one.part(jti)
        return bundle_script(assembled(one, replace(item, openings=None), epoch))

    def forged(one: Paper, jti: str) -> Script:
        epoch, item = one.part(jti)
        openings = Openings(keys={"req": bytes(32), "res": bytes(32)})
        return bundle_script(assembled(one, replace(item, openings=openings), epoch))

    for step in (bare, forged):
        session = paper.session(address)
        ask(session)
        kept = session.calls[0].openings
        paper.steps = [step]
        assert session.anchor(seconds=30).complete
        assert session.calls[0].openings == kept is not None


def test_a_policy_that_asks_for_no_anchor_accepts_the_answer_as_it_came(
    paper: Paper, address: str
) -> None:
    session = paper.session(address, "require_anchored = false")
    ask(session)
    assert session.calls[0].verdict is Verdict.SIMULATED
    assert not session.calls[0].anchored
    assert session.anchor(seconds=30).complete
    assert passed(session) >= ANCHORING


def test_under_such_a_policy_an_epoch_that_does_not_hold_is_refused_all_the_same(
    paper: Paper, address: str
) -> None:
    session = paper.session(address, "require_anchored = false")
    ask(session)
    paper.steps = [other_epoch_quote]
    with pytest.raises(EvidenceError):
        session.anchor(seconds=30)


def test_a_call_without_a_receipt_gets_it_when_it_is_fetched(paper: Paper, address: str) -> None:
    session = paper.session(address)
    with (
        session.http_client(base_url=session.origin) as client,
        client.stream("POST", CHAT, content=BODY, headers={"x-api-key": KEY}) as answer,
    ):
        assert isinstance(answer, httpx2.Response)
    (call,) = session.calls
    assert call.receipt is None
    assert session.unanchored == (call,)
    assert session.anchor(seconds=30).complete
    assert session.calls[0].receipt is not None
    assert {request.header("x-api-key") for request in paper.asked} == {KEY}
