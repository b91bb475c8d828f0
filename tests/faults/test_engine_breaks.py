"""One engine that breaks on the wire, at every point: what callers read, what receipts say."""

from __future__ import annotations

import pytest

from attestation.receipt.claims import End
from gateway.engine.scripted import JSON, Close, Script
from tests.faults.bench import ONCE, PLAIN, STREAM, STREAMED, Bench, body_of
from tests.outcomes.bench import ANSWER, EVENTS
from tests.support.faults import Fault, Kind, Plan
from tests.support.serving import wait_until

pytestmark = pytest.mark.slow

HEAD = len(
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
)
STREAM_HEAD = len(
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)
FIRST_EVENT = STREAM_HEAD + len(b"%x\r\n" % len(EVENTS[0])) + len(EVENTS[0]) + 2
GARBAGE = b"\x00\xff\r\n\r\n\xfe garbage \r\n" * 3


BEFORE_THE_WHOLE_ANSWER = {
    "reset before the first byte": (Kind.RESET, 0, 502, "upstream_reset"),
    "closed before the first byte": (Kind.TRUNCATE, 0, 502, "upstream_reset"),
    "reset inside the head": (Kind.RESET, 30, 502, "upstream_reset"),
    "closed inside the head": (Kind.TRUNCATE, HEAD - 1, 502, "upstream_reset"),
    "closed after the head": (Kind.TRUNCATE, HEAD, 502, "upstream_incomplete"),
    "reset inside the body": (Kind.RESET, HEAD + 20, 502, "upstream_incomplete"),
    "closed one byte before the end": (
        Kind.TRUNCATE, HEAD + len(ANSWER) - 1, 502, "upstream_incomplete",
    ),
    "garbage instead of the head": (Kind.REPLACE, 0, 502, "upstream_malformed"),
    "garbage before the head": (Kind.INSERT, 0, 502, "upstream_malformed"),
    "garbage inside the head": (Kind.INSERT, 20, 502, "upstream_malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", BEFORE_THE_WHOLE_ANSWER)
def test_plain_answer_that_is_not_whole_is_an_error_with_its_receipt(
    bench: Bench, case: str
) -> None:
    kind, after, status, code = BEFORE_THE_WHOLE_ANSWER[case]
    bench.fresh(Plan(down=Fault(kind=kind, after=after, data=GARBAGE)))
    with bench.accounted() as receipts:
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.code, reply.ended) == (status, code, True)
        sealed = bench.checked(reply, body_of())
    assert [one.claims.jti for one in receipts] == [sealed.claims.jti]
    assert sealed.end is End.UPSTREAM_ERROR
    assert sealed.tries == [("e0", code.removeprefix("upstream_"))]


def test_engine_that_refuses_every_connection_is_an_error_and_hears_of_nothing(
    bench: Bench,
) -> None:
    bench.fresh(Plan(refuse=True))
    with bench.accounted(asked=0):
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert reply.status == 502
        assert bench.checked(reply, body_of()).end is End.UPSTREAM_ERROR


INSIDE_A_STREAM = {
    "reset after an event": (Kind.RESET, FIRST_EVENT, "upstream_incomplete"),
    "closed after an event": (Kind.TRUNCATE, FIRST_EVENT, "upstream_incomplete"),
    "closed inside an event": (Kind.TRUNCATE, FIRST_EVENT + 12, "upstream_incomplete"),
    "garbage between two chunks": (Kind.INSERT, FIRST_EVENT, "upstream_malformed"),
    "garbage instead of the rest": (Kind.REPLACE, FIRST_EVENT, "upstream_malformed"),
}


@pytest.mark.parametrize("case", INSIDE_A_STREAM)
def test_stream_that_breaks_ends_with_an_error_event_and_the_receipt_covers_just_it(
    bench: Bench, case: str
) -> None:
    kind, after, code = INSIDE_A_STREAM[case]
    sent = body_of(stream=True)
    bench.fresh(Plan(down=Fault(kind=kind, after=after, data=GARBAGE)), play=STREAM)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent, "x-receipt: inline")
        reply = talk.reply()
        assert (reply.status, reply.ended, reply.code) == (200, True, code)
        assert reply.body.startswith(EVENTS[0])
        assert b"[DONE]" not in reply.body
        sealed = bench.checked(reply, sent)
    assert sealed.end is End.UPSTREAM_ERROR
    assert sealed.tries == [("e0", code.removeprefix("upstream_"))]


def test_garbage_in_the_frames_themselves_is_passed_on_and_covered(bench: Bench) -> None:
    frames = (b"data: \x00\xff\xfe{[\n\n", b"garbage: \xc3(\r\r\n\n", b"data: [DONE]\n\n")
    sent = body_of(stream=True)
    bench.fresh(play=Script(writes=frames, headers=ONCE))
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent, "x-receipt: inline")
        reply = talk.reply()
        assert (reply.status, reply.ended) == (200, True)
        assert frames[0] in reply.body
        bench.checked(reply, sent)


@pytest.mark.parametrize("stream", [False, True])
def test_answer_that_comes_byte_by_byte_is_the_same_answer(bench: Bench, stream: bool) -> None:
    sent = body_of(stream=stream)
    slow = Plan(down=Fault(kind=Kind.SLOW, size=1))
    bench.fresh(slow, play=STREAM if stream else PLAIN)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent)
        bench.way.step(2000)
        reply = talk.reply()
        assert (reply.status, reply.ended) == (200, True)
        assert reply.body == (STREAMED if stream else ANSWER)
        assert bench.checked(reply, sent).end is End.COMPLETE


@pytest.mark.parametrize("way", ["up", "down"])
def test_delay_on_either_way_changes_nothing(bench: Bench, way: str) -> None:
    late = Fault(kind=Kind.DELAY, after=50)
    bench.fresh(Plan(up=late) if way == "up" else Plan(down=late))
    with bench.accounted():
        talk = bench.talk()
        before = len(bench.way.passed)
        talk.ask(body_of())
        wait_until(lambda: [getattr(one, way) for one in bench.way.passed[before:]] == [50])
        bench.way.go_on()
        reply = talk.reply()
        assert (reply.status, reply.body) == (200, ANSWER)
        assert bench.checked(reply, body_of()).end is End.COMPLETE


def test_request_that_is_cut_on_its_way_to_the_engine_is_not_sent_again(bench: Bench) -> None:
    bench.fresh(Plan(up=Fault(kind=Kind.RESET, after=60)))
    with bench.accounted(asked=0):
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.code) == (502, "upstream_reset")
        assert bench.checked(reply, body_of()).tries == [("e0", "reset")]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_engines_own_5xx_is_its_answer(bench: Bench, status: int) -> None:
    detail = b'{"detail":"the engine is unwell"}'
    bench.fresh(play=Script(
        writes=(detail,), close=Close.LENGTH, status=status, content_type=JSON, headers=ONCE,
    ))  # fmt: skip
    with bench.accounted():
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.body) == (status, detail)
        sealed = bench.checked(reply, body_of())
    assert (sealed.end, sealed.tries) == (End.COMPLETE, [("e0", "ok")])
