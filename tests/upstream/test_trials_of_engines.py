"""Trials over real sockets: callers that leave them, and requests that are none."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engine.scripted import Close, Script
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import EngineCall, Engines, HealthRules
from tests.upstream.field import FINE, Field, answer_of, ask, failing, outs, start, until

SILENT = Script(close=Close.MUTE)
CUT = Script(writes=(b"abc",), close=Close.NO_LAST_CHUNK)
UNENDING = Script(writes=(b"abc",), close=Close.HANG)
RULES = HealthRules(failures=2, cooldown=3600.0)


async def left_for(engines: Field, script: Script, together: Engines) -> None:
    """Have "a" left for how it serves two callers, and let the first trial begin."""
    engines.engines["a"].set(script)
    for nth in (8, 9):
        await failing(together, nth=nth)
    breaker = engines.upstreams[0].breaker
    assert breaker.state == "open"
    breaker._until = 0.0


async def under_way(engines: Field, call: EngineCall) -> asyncio.Task[None]:
    """Send the request and wait until the engine has it."""
    count = len(engines.engines["a"].requests)
    waiting = asyncio.create_task(answer_of(call))
    await until(lambda: len(engines.engines["a"].requests) > count)
    return waiting


async def test_caller_that_leaves_every_trial_leaves_the_third_to_others(engines: Field) -> None:
    await engines.add("a")
    together = engines.together(RULES)
    await left_for(engines, Script(close=Close.DROP), together)
    engines.engines["a"].set(SILENT)
    for _ in range(2):
        call = start(together, nth=1)
        waiting = await under_way(engines, call)
        call.close()
        with pytest.raises(UpstreamError):
            await waiting
    engines.engines["a"].set(FINE)
    with pytest.raises(UpstreamError) as caught:
        start(together, nth=1)
    assert caught.value.kind is UpstreamFailure.UNAVAILABLE
    assert outs(await ask(together, nth=2)) == [("a", "ok")]
    assert outs(await ask(together, nth=1)) == [("a", "ok")]


async def test_trial_that_is_cancelled_is_free_for_the_next(engines: Field) -> None:
    await engines.add("a")
    together = engines.together(RULES)
    await left_for(engines, Script(close=Close.DROP), together)
    engines.engines["a"].set(SILENT)
    call = start(together, nth=1)
    waiting = await under_way(engines, call)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    call.close()
    engines.engines["a"].set(FINE)
    assert outs(await ask(together, nth=2)) == [("a", "ok")]


async def test_trial_that_is_left_inside_its_answer_is_free_for_the_next(engines: Field) -> None:
    await engines.add("a")
    together = engines.together(RULES)
    await left_for(engines, CUT, together)
    engines.engines["a"].set(UNENDING)
    for _ in range(2):
        call = start(together, nth=1)
        await call.head()
        # Only a whole answer brings it back, so this is a trial still.
        assert together.conditions()[0].state == "half_open"
        call.close()
    engines.engines["a"].set(FINE)
    with pytest.raises(UpstreamError):
        start(together, nth=1)
    call = start(together, nth=2)
    await answer_of(call)
    call.was_whole()
    call.close()
    assert together.conditions()[0].state == "up"


@pytest.mark.parametrize("ends", ["left", "reset"])
async def test_request_from_before_that_ends_does_not_end_a_trial(
    engines: Field, ends: str
) -> None:
    await engines.add("a", SILENT)
    together = engines.together(RULES)
    before = start(together, nth=3)
    old = await under_way(engines, before)
    await left_for(engines, Script(close=Close.DROP), together)
    engines.engines["a"].set(SILENT)
    trial = start(together, nth=1)
    waiting = await under_way(engines, trial)
    if ends == "left":
        before.close()
    else:
        assert before._connection is not None
        before._connection.abort(UpstreamFailure.RESET, "as if the engine had done it")
    with pytest.raises(UpstreamError):
        await old
    assert together.conditions()[0].state == "half_open"
    with pytest.raises(UpstreamError):
        start(together, nth=2)
    trial.close()
    with pytest.raises(UpstreamError):
        await waiting
    engines.engines["a"].set(FINE)
    assert outs(await ask(together, nth=3)) == [("a", "ok")]


async def test_whole_answer_to_a_request_from_before_does_not_bring_an_engine_back(
    engines: Field,
) -> None:
    await engines.add("a", CUT)
    together = engines.together(RULES)
    before = start(together, nth=3)
    await before.head()
    await left_for(engines, CUT, together)
    before.was_whole()
    before.close()
    assert together.conditions()[0].state == "open"


async def test_call_that_was_closed_as_its_engine_failed_takes_no_trial_of_another(
    engines: Field,
) -> None:
    await engines.add("a", Script(close=Close.DROP))
    await engines.add("b")
    together = engines.together(HealthRules(failures=1, cooldown=3600.0))
    second = engines.upstreams[1].breaker
    for nth in (8, 9):
        second.failed(UpstreamFailure.RESET, 0.0, bytes([nth]))
    assert second.state == "open"
    second._until = 0.0
    call = start(together, first="a")
    engines.upstreams[0].breaker._tell = lambda _: call.close()
    engines.upstreams[0].breaker.failed(UpstreamFailure.RESET, 0.0, b"8")
    with pytest.raises(UpstreamError) as caught:
        await call.head()
    assert caught.value.kind is UpstreamFailure.RESET
    assert second.state == "open"
    assert engines.asked()["b"] == []
    assert outs(await ask(together, nth=2)) == [("b", "ok")]
