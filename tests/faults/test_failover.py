"""Two engines, and the wire to the first one breaks: one answer, at most two tries, one receipt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attestation.receipt.claims import End
from gateway.engine.scripted import JSON, Close, Script
from tests.faults.bench import ONCE, PLAIN, STREAM, STREAMED, Bench, bench_of, body_of
from tests.faults.test_engine_breaks import FIRST_EVENT, GARBAGE
from tests.outcomes.bench import ANSWER, EVENTS
from tests.support.faults import Fault, Kind, Plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Two engines; the callers' key comes to the first of them."""
    upstream = [{"weight": 1000}, {}]
    with bench_of(tmp_path_factory.mktemp("failover"), 2, upstream=upstream) as one:
        one.fresh()
        talk = one.talk()
        talk.ask(body_of())
        assert one.sealed(talk.reply().jti).tries == [("e0", "ok")]
        yield one


# What the first engine does before the first byte of its answer, and how often one is asked.
BEFORE_THE_FIRST_BYTE = {
    "refuses": (Plan(refuse=True), 1),
    "takes the request and closes": (Plan(down=Fault(kind=Kind.TRUNCATE)), 2),
    "takes the request and is reset": (Plan(down=Fault(kind=Kind.RESET)), 2),
    "is reset inside the request": (Plan(up=Fault(kind=Kind.RESET, after=40)), 1),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("case", BEFORE_THE_FIRST_BYTE)
def test_second_engine_answers_in_the_firsts_place(bench: Bench, case: str, stream: bool) -> None:
    plan, asked = BEFORE_THE_FIRST_BYTE[case]
    sent = body_of(stream=stream)
    bench.fresh(plan, **({"play": STREAM} if stream else {}))  # type: ignore[arg-type]
    with bench.accounted(asked=asked):
        talk = bench.talk()
        talk.ask(sent)
        reply = talk.reply()
        assert (reply.status, reply.ended) == (200, True)
        assert reply.body == (STREAMED if stream else ANSWER)
        sealed = bench.checked(reply, sent)
    assert sealed.end is End.COMPLETE
    assert [name for name, _ in sealed.tries] == ["e0", "e1"]
    assert [outcome for _, outcome in sealed.tries][1] == "ok"
    names = [one.header("x-request-id") for engine in bench.engines for one in engine.requests]
    assert f"{reply.jti}-2" in names


@pytest.mark.parametrize(
    ("kind", "after"), [(Kind.TRUNCATE, 1), (Kind.RESET, 40), (Kind.REPLACE, 0)]
)
def test_answer_that_has_begun_is_not_asked_for_again(bench: Bench, kind: Kind, after: int) -> None:
    bench.fresh(Plan(down=Fault(kind=kind, after=after, data=GARBAGE)))
    with bench.accounted():
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert reply.status == 502
        sealed = bench.checked(reply, body_of())
    assert sealed.end is End.UPSTREAM_ERROR
    assert [name for name, _ in sealed.tries] == ["e0"]


def test_stream_that_breaks_after_an_event_stays_with_its_engine(bench: Bench) -> None:
    sent = body_of(stream=True)
    bench.fresh(Plan(down=Fault(kind=Kind.RESET, after=FIRST_EVENT)), play=STREAM)
    with bench.accounted():
        talk = bench.talk()
        talk.ask(sent)
        reply = talk.reply()
        assert (reply.status, reply.ended) == (200, True)
        assert reply.body.startswith(EVENTS[0])
        sealed = bench.checked(reply, sent)
    assert (sealed.end, sealed.tries) == (End.UPSTREAM_ERROR, [("e0", "incomplete")])


def refusal(status: int) -> Script:
    return Script(
        writes=(b"{}",), close=Close.LENGTH, status=status, content_type=JSON, headers=ONCE
    )


@pytest.mark.parametrize("status", [502, 503])
def test_engine_that_did_not_take_the_request_gives_way(bench: Bench, status: int) -> None:
    scripts = iter([refusal(status)])
    bench.fresh(play=lambda _: next(scripts, PLAIN))
    with bench.accounted(asked=2):
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.body) == (200, ANSWER)
        assert bench.checked(reply, body_of()).tries == [("e0", "status"), ("e1", "ok")]


def test_5xx_of_both_engines_is_the_second_ones_answer(bench: Bench) -> None:
    bench.fresh(play=refusal(503))
    with bench.accounted(asked=2):
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.body) == (503, b"{}")
        assert bench.checked(reply, body_of()).tries == [("e0", "status"), ("e1", "ok")]


@pytest.mark.parametrize("status", [429, 504])
def test_other_refusals_of_the_first_engine_are_the_answer(bench: Bench, status: int) -> None:
    bench.fresh(play=refusal(status))
    with bench.accounted():
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.body) == (status, b"{}")
        assert bench.checked(reply, body_of()).tries == [("e0", "ok")]


def test_two_engines_that_drop_the_request_are_an_error_after_two_tries(bench: Bench) -> None:
    drop = Plan(down=Fault(kind=Kind.TRUNCATE))
    bench.fresh(drop, drop)
    with bench.accounted(asked=2):
        talk = bench.talk()
        talk.ask(body_of())
        reply = talk.reply()
        assert (reply.status, reply.code) == (502, "upstream_reset")
        sealed = bench.checked(reply, body_of())
    assert sealed.end is End.UPSTREAM_ERROR
    assert sealed.tries == [("e0", "reset"), ("e1", "reset")]
