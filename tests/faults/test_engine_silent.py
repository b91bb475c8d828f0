"""An engine that stays connected and says nothing more: bounded, left, and on the receipt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attestation.receipt.claims import End
from tests.faults.bench import PLAIN, STREAM, Bench, bench_of, body_of
from tests.faults.test_engine_breaks import FIRST_EVENT, HEAD, STREAM_HEAD
from tests.outcomes.bench import ANSWER, EVENTS
from tests.support.faults import Fault, Kind, Plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two engines with short limits; the callers' key comes to the first of them."""
    short = {"first_byte_timeout": 1.0, "idle_timeout": 1.0}
    upstream = [{**short, "weight": 1000}, short]
    with bench_of(tmp_path_factory.mktemp("silent"), 2, upstream=upstream) as one:
        one.fresh()
        talk = one.talk()
        talk.ask(body_of())
        assert one.sealed(talk.reply().jti).tries == [("e0", "ok")]
        yield one


@pytest.mark.parametrize("after", [0, 30])
def test_engine_that_never_answers_is_left_and_no_other_is_asked(bench: Bench, after: int) -> None:
    bench.fresh(Plan(down=Fault(kind=Kind.HALF_OPEN, after=after)))
    with bench.accounted():
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.code) == (504, "upstream_timeout_first_byte")
        assert reply.headers["x-should-retry"] == "false"
        sealed = bench.checked(reply, body_of())
        assert (sealed.end, sealed.tries) == (End.TIMEOUT, [("e0", "timeout_first_byte")])
        bench.engine_left()


@pytest.mark.parametrize("after", [HEAD + 1, HEAD + len(ANSWER) - 1])
def test_engine_that_stops_inside_a_plain_answer_is_left(bench: Bench, after: int) -> None:
    bench.fresh(Plan(down=Fault(kind=Kind.HALF_OPEN, after=after)), play=PLAIN)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.code) == (504, "upstream_timeout_idle")
        sealed = bench.checked(reply, body_of())
        assert (sealed.end, sealed.tries) == (End.TIMEOUT, [("e0", "timeout_idle")])
        bench.engine_left()


@pytest.mark.parametrize(("after", "got"), [(FIRST_EVENT, EVENTS[0]), (FIRST_EVENT - 9, b"")])
def test_engine_that_stops_inside_a_stream_is_left(bench: Bench, after: int, got: bytes) -> None:
    sent = body_of(stream=True)
    bench.fresh(Plan(down=Fault(kind=Kind.HALF_OPEN, after=after)), play=STREAM)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent, "x-receipt: inline")
        reply = talk.reply()
        assert (reply.status, reply.ended, reply.code) == (200, True, "upstream_timeout_idle")
        assert reply.body.startswith(got)
        sealed = bench.checked(reply, sent)
        assert sealed.end is End.TIMEOUT
        bench.engine_left()


def test_engine_that_sends_a_streams_head_only_is_left(bench: Bench) -> None:
    sent = body_of(stream=True)
    bench.fresh(Plan(down=Fault(kind=Kind.HALF_OPEN, after=STREAM_HEAD)), play=STREAM)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent)
        reply = talk.reply()
        assert (reply.status, reply.code) == (200, "upstream_timeout_first_byte")
        assert bench.checked(reply, sent).end is End.TIMEOUT
        bench.engine_left()


def test_request_that_never_arrives_at_the_engine_is_a_timeout_too(bench: Bench) -> None:
    bench.fresh(Plan(up=Fault(kind=Kind.HALF_OPEN, after=40)))
    with bench.accounted(asked=0):
        talk = bench.talk()
        talk.ask(body_of(words=10))
        reply = talk.reply()
        assert (reply.status, reply.code) == (504, "upstream_timeout_first_byte")
        assert bench.checked(reply, body_of(words=10)).end is End.TIMEOUT
