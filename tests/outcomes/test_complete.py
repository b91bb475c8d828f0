"""What ends well: exact bytes both ways, one receipt, delivered as asked."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, cast

import pytest

from attestation.errors import UnavailableError
from attestation.receipt.claims import End
from gateway.edge.routes import PATHS
from gateway.engine.scripted import EVENT_STREAM, JSON, Close, Script
from tests.outcomes.bench import (
    ANSWER,
    CHAT,
    DONE,
    EVENTS,
    LATE_TO_GO_ON,
    PLAIN,
    QUESTION,
    STREAM,
)
from tests.outcomes.conftest import Start

if TYPE_CHECKING:
    from gateway.attester.base import QuoteProvider


async def test_plain_answer_comes_back_byte_for_byte_with_its_receipt(start: Start) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask()
    assert (reply.status, reply.body) == (200, ANSWER)
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.COMPLETE
    assert claims.response.engine is None
    assert claims.response.finish_reasons == ("stop",)
    assert (claims.model.id, claims.model.served, claims.model.engine) == (
        "m", "m-served", "vllm/test",
    )  # fmt: skip
    assert claims.decision.code == "allow"
    assert [(a.upstream, a.local, a.outcome) for a in claims.attempts] == [("e1", False, "ok")]
    (request,) = bench.engine.requests
    assert request.body == QUESTION
    assert request.header("x-request-id") == reply.jti
    assert bench.receipts == 1


async def test_every_authenticated_answer_names_receipt_and_keyset_and_is_not_cached(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    for body in (QUESTION, b"not json"):
        reply = await bench.ask(body, inline=False)
        assert reply.headers["x-receipt-id"] == reply.headers["x-request-id"]
        assert reply.headers["x-keyset-digest"] == bench.notary.boot.keyset_digest.hex
        assert reply.headers["cache-control"] == "no-store"
        assert "x-receipt" not in reply.headers
        assert {"server", "date"}.isdisjoint(reply.headers)
        await bench.checked(reply, body)


@pytest.mark.parametrize("script", [PLAIN, STREAM])
async def test_only_status_and_content_type_are_taken_from_the_engine(
    start: Start, script: Script
) -> None:
    leaky = (("x-leak", "1"), ("set-cookie", "a=b"), ("endpoint-load-metrics", "q=9"))
    named = Script(
        writes=script.writes, content_type=script.content_type, close=script.close, headers=leaky
    )
    bench = await start(named)
    reply = await bench.ask()
    assert {name for name, _ in leaky}.isdisjoint(reply.headers)
    assert reply.headers["content-type"] == script.content_type


async def test_nothing_of_the_callers_head_reaches_the_engine_but_what_it_accepts(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    await bench.ask(
        headers=(
            "accept: application/json",
            "cookie: a=b",
            "x-api-key: " + bench.key,
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "x-request-id: chosen",
            "x-receipt-nonce: abcdefgh",
            "x-forwarded-for: 192.0.2.1",
        )
    )
    (request,) = bench.engine.requests
    sent = dict(request.headers)
    assert sent.keys() == {"host", "content-type", "accept", "content-length", "x-request-id"}
    assert (sent["content-type"], sent["accept"]) == ("application/json", "application/json")
    assert sent["x-request-id"] != "chosen"


async def test_request_is_announced_before_a_byte_of_its_body_is_there(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request()[: -len(QUESTION)])
    async with asyncio.timeout(60):
        while not bench.metric("attested_in_flight"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    client.send(QUESTION)
    await bench.checked(await client.reply(), QUESTION)


async def test_no_request_waits_for_a_quote(start: Start) -> None:
    bench = await start(PLAIN)
    asked, release = threading.Event(), threading.Event()

    class Hanging:
        def quote(self, _report_data: bytes) -> bytes:
            asked.set()
            release.wait(30)
            raise UnavailableError("no quote", code="test")

    bench.notary._quotes.quoter._provider = cast("QuoteProvider", Hanging())
    challenge = asyncio.ensure_future(bench.notary.challenge(bytes(32)))
    try:
        assert await asyncio.to_thread(asked.wait, 60)
        await bench.checked(await bench.ask(), QUESTION)
        assert not challenge.done()
    finally:
        release.set()
    with pytest.raises(UnavailableError):
        await challenge


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_that_can_have_no_body_is_never_a_stream(start: Start, status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: text/event-stream\r\n\r\n".encode()
    bench = await start(Script(writes=(head,), close=Close.RAW))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.body) == (status, b"")
    assert claims.response.end is End.COMPLETE


@pytest.mark.parametrize("path", sorted(PATHS))
async def test_every_route_is_forwarded_and_receipted(start: Start, path: str) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(path=path)
    claims = await bench.checked(reply, QUESTION)
    assert (claims.request.method, claims.request.path) == ("POST", path)
    assert bench.engine.requests[0].target == path


async def test_stream_carries_its_receipt_directly_before_the_terminal_frame(start: Start) -> None:
    bench = await start(STREAM)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.headers["content-type"] == EVENT_STREAM
    assert reply.body.startswith(b"".join(EVENTS) + b": receipt ")
    assert reply.body.endswith(b"\n\n" + DONE)
    assert claims.response.end is End.COMPLETE
    assert claims.response.block_offset == len(b"".join(EVENTS))
    assert claims.response.events == 3
    assert claims.response.engine is None


async def test_stream_without_inline_is_exactly_the_engines(start: Start) -> None:
    bench = await start(STREAM)
    reply = await bench.ask(inline=False)
    assert reply.body == b"".join(EVENTS) + DONE
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.block_offset is None


async def test_terminal_frame_waits_until_the_engine_said_that_it_is_the_last(
    start: Start,
) -> None:
    stream = Script(writes=(*EVENTS, DONE), close=Close.HANG)
    bench = await start(stream, upstream_limits=LATE_TO_GO_ON)
    client = await bench.connect()
    client.send(bench.request())
    await client.head()
    got = b""
    while got != b"".join(EVENTS):
        got += await client.chunk()
    # The engine never ends its message, so its terminal frame is never passed on.
    rest = await client.chunk()
    assert DONE not in rest
    assert b"upstream_timeout_idle" in rest


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
async def test_engine_errors_are_passed_through_and_receipted(start: Start, status: int) -> None:
    error = b'{"error":{"message":"no","type":"BadRequestError","param":null,"code":%d}}' % status
    bench = await start(
        Script(writes=(error,), close=Close.LENGTH, content_type=JSON, status=status)
    )
    reply = await bench.ask()
    assert (reply.status, reply.body) == (status, error)
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.COMPLETE


async def test_error_event_inside_a_whole_stream_is_complete_and_said(start: Start) -> None:
    bench = await start(Script(writes=(EVENTS[0], b'data: {"error":{"message":"x"}}\n\n', DONE)))
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert claims.response.end is End.COMPLETE
    assert "error" in claims.response.finish_reasons


async def test_nonce_and_lineage_stand_in_the_receipt(start: Start) -> None:
    bench = await start(PLAIN)
    first = await bench.ask(headers=("x-task-id: task-1",))
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    reply = await bench.ask(
        headers=(
            "x-receipt-nonce: abcdefgh",
            "x-task-id: task-1",
            f"traceparent: {trace}",
            f"x-receipt-parents: {first.jti}",
            "x-receipt-parents: chatcmpl-x",
        )
    )
    claims = await bench.checked(reply, QUESTION)
    before = await bench.sealed(first.jti)
    assert claims.nonce == "abcdefgh"
    assert (claims.lineage.txn, claims.lineage.parent_span) == ("task-1", "b7ad6b7169203331")
    assert len(claims.lineage.parents) == 2
    assert claims.lineage.call == before.claims.lineage.call + 1
    assert b"traceparent" not in bench.engine.requests[1].head


async def test_malformed_traceparent_is_a_new_root_and_no_error(start: Start) -> None:
    bench = await start(PLAIN)
    reply = await bench.ask(headers=("traceparent: nonsense",))
    claims = await bench.checked(reply, QUESTION)
    assert reply.status == 200
    assert claims.lineage.parent_span is None


async def test_body_that_comes_in_pieces_is_one_body(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    whole = bench.request()
    for at in range(0, len(whole), 7):
        client.send(whole[at : at + 7])
        await asyncio.sleep(0)
    reply = await client.reply()
    await bench.checked(reply, QUESTION)
    assert bench.engine.requests[0].body == QUESTION


async def test_chunked_request_is_forwarded_as_one_body(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    head = bench.request(b"", drop=("content-length",), headers=("transfer-encoding: chunked",))
    client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUESTION), QUESTION))
    reply = await client.reply()
    await bench.checked(reply, QUESTION)
    assert bench.engine.requests[0].body == QUESTION
    assert bench.engine.requests[0].header("transfer-encoding") is None


async def test_client_that_expects_continue_is_told_to_go_on(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    whole = bench.request(headers=("expect: 100-continue",))
    client.send(whole[: -len(QUESTION)])
    assert (await client.head())[0] == 100
    client.send(QUESTION)
    assert (await client.reply()).status == 200


async def test_one_connection_carries_many_requests_each_with_its_own_receipt(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    ids = set()
    for _ in range(3):
        client.send(bench.request())
        reply = await client.reply()
        await bench.checked(reply, QUESTION)
        ids.add(reply.jti)
    assert len(ids) == bench.receipts == 3


async def test_pipelined_requests_are_answered_in_turn(start: Start) -> None:
    bench = await start(PLAIN)
    client = await bench.connect()
    second = QUESTION.replace(b'"m"', b'"n"')
    client.send(bench.request() + bench.request(second))
    for body in (QUESTION, second):
        await bench.checked(await client.reply(), body)
    assert [request.body for request in bench.engine.requests] == [QUESTION, second]


async def test_parallel_requests_get_distinct_indexes_and_admissions(start: Start) -> None:
    bench = await start(lambda _: PLAIN)
    replies = await asyncio.gather(*(bench.ask() for _ in range(20)))
    claims = [await bench.checked(reply, QUESTION) for reply in replies]
    assert sorted(claim.log.index for claim in claims) == list(range(1, 21))
    assert len({claim.log.admission for claim in claims}) == 20
    assert bench.receipts == 20


async def test_engines_dropped_idle_connection_costs_an_attempt_and_no_error(
    start: Start,
) -> None:
    scripts = iter([PLAIN, Script(close=Close.DROP), PLAIN])
    bench = await start(lambda _: next(scripts))
    await bench.ask()
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert reply.status == 200
    assert [attempt.outcome for attempt in claims.attempts] == ["reset", "ok"]
    assert bench.engine.requests[2].header("x-request-id") == reply.jti + "-2"


async def test_model_may_be_left_to_the_engine(start: Start) -> None:
    bench = await start(PLAIN)
    body = json.dumps({"messages": []}).encode()
    claims = await bench.checked(await bench.ask(body, path=CHAT), body)
    assert claims.model.id is None


async def test_empty_answer_is_an_answer(start: Start) -> None:
    bench = await start(Script(close=Close.LENGTH, content_type=JSON))
    reply = await bench.ask()
    assert (reply.status, reply.body) == (200, b"")
    await bench.checked(reply, QUESTION)
