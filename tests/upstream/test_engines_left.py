"""Which engine is left alone, for whom, and how it comes back, over real sockets."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.engine.scripted import JSON, Close, Script
from gateway.engine.wire import EngineRequest
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import HealthRules, UpstreamLimits
from tests.upstream.field import (
    FINE,
    ID,
    Field,
    ask,
    failing,
    outs,
    start,
    until,
)


async def test_engine_is_left_after_failures_in_a_row(engines: Field) -> None:
    engines.refusing("a")
    await engines.add("b")
    together = engines.together(HealthRules(failures=3, cooldown=3600.0))
    for _ in range(3):
        assert len((await ask(together, first="a")).attempts) == 2
    for _ in range(3):
        assert outs(await ask(together, first="a")) == [("b", "ok")]
    a, b = together.conditions()
    assert (a.name, a.state, a.reason) == ("a", "open", "connect")
    assert (b.name, b.state, b.reason) == ("b", "up", "")
    assert together.healthy


async def test_without_an_engine_that_is_up_nothing_is_tried(engines: Field) -> None:
    engines.black_hole("a")
    engines.black_hole("b")
    together = engines.together(HealthRules(cooldown=30.0))
    _, call = await failing(together, first="a")
    assert outs(call) == [("a", "timeout_connect"), ("b", "timeout_connect")]
    with pytest.raises(UpstreamError) as caught:
        start(together)
    assert caught.value.kind is UpstreamFailure.UNAVAILABLE
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 30
    assert (together.healthy, together.reason) == (False, "engines_down")
    with pytest.raises(UpstreamError):
        await together.get("/v1/models", request_id=ID)


async def test_engine_that_may_be_tried_again_makes_the_gateway_ready(engines: Field) -> None:
    engines.black_hole("a")
    together = engines.together(HealthRules(cooldown=0.2))
    await failing(together)
    # Where nothing asks engines how they are, only a request can: so requests must come again.
    await until(lambda: together.healthy)
    assert together.reason == ""
    assert together.conditions()[0].state == "open"


async def test_single_black_hole_costs_its_timeout_once(engines: Field) -> None:
    engines.black_hole("a")
    together = engines.together(HealthRules(cooldown=30.0))
    error, _ = await failing(together)
    assert error.kind is UpstreamFailure.TIMEOUT_CONNECT
    with pytest.raises(UpstreamError) as caught:
        start(together)
    assert caught.value.kind is UpstreamFailure.UNAVAILABLE


async def test_one_request_tries_an_engine_that_was_left(engines: Field) -> None:
    going = asyncio.Event()
    drops = [Script(close=Close.DROP), Script(close=Close.DROP)]

    def play(_: EngineRequest) -> Script:
        going.set()
        return drops.pop() if drops else Script(close=Close.MUTE)

    await engines.add("a", play)
    await engines.add("b")
    together = engines.together(HealthRules(failures=2, cooldown=0.3))
    for nth in (1, 2):
        assert outs(await ask(together, "a", nth=nth)) == [("a", "reset"), ("b", "ok")]
    going.clear()
    breaker = engines.upstreams[0].breaker
    await until(lambda: breaker.admits(asyncio.get_running_loop().time()))
    trial = start(together, first="a")
    waiting = asyncio.ensure_future(trial.head())
    await asyncio.wait_for(going.wait(), 60)
    assert engines.told[-1] == ("a", "half_open")
    # The trial runs: whoever comes now goes elsewhere.
    breaker._trial_ends = float("inf")
    for _ in range(5):
        assert outs(await ask(together, first="a")) == [("b", "ok")]
    # Its caller leaves: that says nothing of the engine, and the next one may try.
    trial.close()
    with pytest.raises(UpstreamError):
        await waiting
    engines.engines["a"].set(FINE)
    assert outs(await ask(together, first="a")) == [("a", "ok")]
    assert engines.told[-1] == ("a", "up")


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_engine_that_gives_up_requests_is_left_where_there_is_another(
    engines: Field, status: int
) -> None:
    await engines.add("a", Script(writes=(b"{}",), status=status, content_type=JSON))
    await engines.add("b")
    together = engines.together(HealthRules(failures=2, cooldown=3600.0))
    for nth in range(2):
        assert (await ask(together, "a", nth=nth)).attempts[0].up == "a"
    assert outs(await ask(together, "a", nth=2)) == [("b", "ok")]
    assert together.conditions()[0].reason == "status"


async def test_refusals_of_a_single_engine_stay_its_own(engines: Field) -> None:
    await engines.add("a", Script(writes=(b"{}",), status=503, content_type=JSON))
    together = engines.together(HealthRules(failures=1, cooldown=3600.0))
    for _ in range(3):
        assert outs(await ask(together)) == [("a", "ok")]
    assert together.healthy


# -- what a request may have caused itself ---------------------------------------------------

CUT = Script(writes=(b"abc",), close=Close.NO_LAST_CHUNK)
ONE_CALLERS = {
    "closed without an answer": (Script(close=Close.DROP), "reset"),
    "closed inside the head": (Script(writes=(b"HTTP/1.1 2",), close=Close.RAW), "reset"),
    "no HTTP": (Script(writes=(b"SSH-2.0-x\r\n\r\n",), close=Close.RAW), "malformed"),
    "no answer in time": (Script(close=Close.MUTE), "timeout_first_byte"),
    "cut in the middle": (CUT, "incomplete"),
}
SHORT = UpstreamLimits(connect_timeout=60.0, first_byte_timeout=0.1, idle_timeout=60.0)


@pytest.mark.parametrize("case", ONE_CALLERS)
async def test_one_caller_cannot_take_an_engine_from_the_others(engines: Field, case: str) -> None:
    script, out = ONE_CALLERS[case]
    alone = await engines.add("a", script, limits=SHORT)
    together = engines.together(HealthRules(failures=2, cooldown=3600.0))
    for _ in range(5):
        _, call = await failing(together, nth=1)
        assert outs(call) == [("a", out)]
    assert (together.healthy, together.conditions()[0].state) == (True, "up")
    alone.set(FINE)
    assert outs(await ask(together, nth=2)) == [("a", "ok")]


@pytest.mark.parametrize("case", ONE_CALLERS)
async def test_engine_that_breaks_requests_of_two_callers_is_left(
    engines: Field, case: str
) -> None:
    await engines.add("a", ONE_CALLERS[case][0], limits=SHORT)
    together = engines.together(HealthRules(failures=3, cooldown=3600.0))
    for nth in (1, 1, 2):
        await failing(together, nth=nth)
    assert (together.healthy, together.conditions()[0].state) == (False, "open")


async def test_engine_that_breaks_one_callers_requests_is_left_by_that_caller(
    engines: Field,
) -> None:
    first = await engines.add("a", CUT)
    await engines.add("b")
    together = engines.together(HealthRules(failures=2, cooldown=3600.0))
    for _ in range(2):
        await failing(together, "a", nth=1)
    assert outs(await ask(together, "a", nth=1)) == [("b", "ok")]
    first.set(FINE)
    assert outs(await ask(together, "a", nth=2)) == [("a", "ok")]


async def test_engine_that_one_caller_left_still_answers_it_if_there_is_no_other(
    engines: Field,
) -> None:
    first = await engines.add("a", CUT)
    engines.black_hole("b")
    together = engines.together(HealthRules(failures=2, cooldown=3600.0))
    first.set(FINE)
    assert outs(await ask(together, "b")) == [("b", "timeout_connect"), ("a", "ok")]
    first.set(CUT)
    for _ in range(2):
        await failing(together, "a", nth=1)
    first.set(FINE)
    assert outs(await ask(together, "a", nth=1)) == [("a", "ok")]


async def test_engine_that_breaks_every_stream_is_left_although_its_answers_begin(
    engines: Field,
) -> None:
    await engines.add("a", CUT)
    await engines.add("b")
    together = engines.together(HealthRules(failures=3, cooldown=3600.0))
    for nth in (1, 2, 3):
        _, call = await failing(together, "a", nth=nth)
        assert outs(call) == [("a", "incomplete")]
    assert outs(await ask(together, "a", nth=4)) == [("b", "ok")]
    assert together.conditions()[0].reason == "incomplete"


async def test_stream_without_its_terminal_event_counts_though_http_calls_it_whole(
    engines: Field,
) -> None:
    await engines.add("a")
    together = engines.together(HealthRules(failures=3, cooldown=3600.0))
    for nth in (1, 2, 3):
        (await ask(together, nth=nth)).was_cut_short()
    assert together.conditions()[0].state == "open"
    assert together.conditions()[0].reason == "broken_stream"


async def test_stream_that_was_whole_forgives_those_that_were_not(engines: Field) -> None:
    await engines.add("a")
    together = engines.together(HealthRules(failures=3, cooldown=3600.0))
    for nth in (1, 2, 3, 4):
        (await ask(together, nth=nth)).was_cut_short()
        (await ask(together, nth=nth)).was_cut_short()
        (await ask(together, nth=nth)).was_whole()
    assert (together.conditions()[0].state, together.conditions()[0].reason) == ("up", "")


async def test_caller_that_leaves_says_nothing_of_the_engine(engines: Field) -> None:
    mute = await engines.add("a", Script(close=Close.MUTE))
    together = engines.together(HealthRules(failures=1, cooldown=3600.0))
    for nth in range(4):
        call = start(together, nth=nth)
        waiting = asyncio.ensure_future(call.head())
        await until(partial(engines.have_asked, nth + 1))
        call.close()
        with pytest.raises(UpstreamError):
            await waiting
    assert len(mute.requests) == 4
    assert (together.conditions()[0].state, together.conditions()[0].reason) == ("up", "")
