"""Callers that break off, stand still or are slow: the engine is left, every receipt is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attestation.receipt.claims import End
from gateway.engine.scripted import JSON, Close, Script
from tests.faults.bench import ONCE, STREAM, STREAMED, Bench, bench_of, body_of
from tests.outcomes.bench import ANSWER, EVENTS, opened
from tests.support.faults import Fault, Kind, Plan
from tests.support.serving import wait_until

pytestmark = pytest.mark.slow

BIG_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (
    b"a" * 60_000
)
BIG = (BIG_EVENT,) * 200
HANGING_STREAM = Script(writes=(EVENTS[0],), close=Close.HANG, headers=ONCE)
HANGING_PLAIN = Script(writes=(ANSWER[:9],), close=Close.HANG, content_type=JSON, headers=ONCE)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A gateway that waits two seconds for heads, bodies, and callers that take nothing."""
    limits = {"header_seconds": 2.0, "body_seconds": 2.0, "stall_seconds": 2.0}
    with bench_of(tmp_path_factory.mktemp("callers"), limits=limits) as one:
        yield one


LEAVING = {
    "before the first byte": (Script(close=Close.MUTE), 0),
    "inside a plain answer": (HANGING_PLAIN, 0),
    "inside a stream": (HANGING_STREAM, len(EVENTS[0])),
}


@pytest.mark.parametrize("how", [Kind.RESET, Kind.TRUNCATE])
@pytest.mark.parametrize("phase", LEAVING)
def test_caller_that_leaves_takes_the_engines_connection_along(
    bench: Bench, phase: str, how: Kind
) -> None:
    play, seen = LEAVING[phase]
    sent = body_of(stream=True)
    asked = bench.asked
    # The byte after the request is what breaks the way: the test sends it when it wants.
    talk = bench.talk()
    whole = len(talk.head(len(sent))) + len(sent)
    bench.fresh(play=play, front=Plan(up=Fault(kind=how, after=whole)))
    with bench.accounted() as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        wait_until(lambda: bench.asked > asked)
        talk.until(lambda read: len(read) >= seen)
        talk.sock.sendall(b"x")
        bench.engine_left()
    (sealed,) = receipts
    assert sealed.end is End.CLIENT_ABORT
    opened(sealed.claims.request.commitment, sealed.openings, "req", sent)
    if sealed.claims.response.length:
        taken = EVENTS[0][: sealed.claims.response.length]
        opened(sealed.claims.response.commitment, sealed.openings, "res", taken)


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATE])
def test_body_that_breaks_off_reaches_no_engine(bench: Bench, kind: Kind) -> None:
    sent = body_of(words=50)
    talk = bench.talk()
    head = len(talk.head(len(sent)))
    bench.fresh(front=Plan(up=Fault(kind=kind, after=head + 40)))
    with bench.accounted(asked=0) as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        assert talk.reply().status == 0
    (sealed,) = receipts
    assert sealed.end is End.CLIENT_ABORT
    assert (sealed.claims.request.partial, sealed.claims.request.length) == (True, 40)
    opened(sealed.claims.request.commitment, sealed.openings, "req", sent[:40])


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATE, Kind.HALF_OPEN])
def test_head_that_breaks_off_is_no_request(bench: Bench, kind: Kind) -> None:
    bench.fresh(front=Plan(up=Fault(kind=kind, after=30)))
    with bench.accounted(receipts=0, asked=0):
        talk = bench.talk(through=bench.front)
        talk.ask(body_of())
        reply = talk.reply()
        # One that only stands still is told so in the end.
        assert reply.status == (408 if kind is Kind.HALF_OPEN else 0)
        wait_until(lambda: bench.front.last.over)


def test_body_that_stands_still_is_a_timeout_with_its_receipt(bench: Bench) -> None:
    sent = body_of(words=50)
    talk = bench.talk()
    after = len(talk.head(len(sent))) + 40
    bench.fresh(front=Plan(up=Fault(kind=Kind.HALF_OPEN, after=after)))
    with bench.accounted(asked=0) as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        reply = talk.reply()
        assert (reply.status, reply.code) == (408, "request_timeout")
        bench.checked(reply, sent[:40])
    assert [one.end for one in receipts] == [End.TIMEOUT]


def test_body_that_comes_byte_by_byte_is_one_request(bench: Bench) -> None:
    sent = body_of(words=3)
    talk = bench.talk()
    after = len(talk.head(len(sent)))
    bench.fresh(front=Plan(up=Fault(kind=Kind.SLOW, after=after)))
    with bench.accounted() as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        bench.front.step(len(sent))
        reply = talk.reply()
        assert (reply.status, reply.body) == (200, ANSWER)
        bench.checked(reply, sent)
    assert receipts[0].end is End.COMPLETE
    assert b'"word word word "' in bench.engine.requests[-1].body


def test_garbage_inside_a_body_changes_its_length_and_the_rest_is_no_request(
    bench: Bench,
) -> None:
    sent = body_of(words=20)
    talk = bench.talk()
    after = len(talk.head(len(sent))) + 30
    bench.fresh(front=Plan(up=Fault(kind=Kind.INSERT, after=after, data=b"\x00\xff\r\n" * 3)))
    with bench.accounted(asked=0) as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        reply = talk.reply()
        assert reply.status == 400
        changed = sent[:30] + b"\x00\xff\r\n" * 3 + sent[30:]
        bench.checked(reply, changed[: len(sent)])
    assert [one.end for one in receipts] == [End.REFUSED]


def test_slow_caller_slows_the_engine_and_gets_everything(bench: Bench) -> None:
    sent = body_of(stream=True)
    slow = Plan(down=Fault(kind=Kind.SLOW, size=1 << 16))
    bench.fresh(play=Script(writes=(*BIG, b"data: [DONE]\n\n"), headers=ONCE), front=slow)
    with bench.accounted() as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        wait_until(lambda: bench.way.last.down > 0)
        bench.front.step(1000)
        reply = talk.reply()
        assert reply.body == b"".join(BIG) + b"data: [DONE]\n\n"
        bench.checked(reply, sent)
    assert receipts[0].end is End.COMPLETE


def test_caller_that_takes_nothing_is_cut_and_the_engine_is_not_read_to_its_end(
    bench: Bench,
) -> None:
    sent = body_of(stream=True)
    still = Plan(down=Fault(kind=Kind.HALF_OPEN, after=2000))
    # More than every buffer on the way takes together.
    bench.fresh(play=Script(writes=BIG * 5, headers=ONCE), front=still)
    with bench.accounted() as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        bench.engine_left()
        assert bench.way.last.down < len(BIG_EVENT) * len(BIG) * 5
    (sealed,) = receipts
    assert sealed.end is End.CLIENT_ABORT
    assert "stall" in sealed.claims.response.mods
    taken = (BIG_EVENT * len(BIG) * 5)[: sealed.claims.response.length]
    opened(sealed.claims.response.commitment, sealed.openings, "res", taken)


def test_answer_that_is_lost_on_its_way_back_has_its_receipt(bench: Bench) -> None:
    sent = body_of(stream=True)
    bench.fresh(play=STREAM, front=Plan(down=Fault(kind=Kind.RESET)))
    with bench.accounted() as receipts:
        talk = bench.talk(through=bench.front)
        talk.ask(sent)
        assert talk.reply().status == 0
    (sealed,) = receipts
    assert sealed.end in {End.COMPLETE, End.CLIENT_ABORT}
    taken = STREAMED[: sealed.claims.response.length]
    opened(sealed.claims.response.commitment, sealed.openings, "res", taken)
