"""What is tried once more on another engine, and what is not, over real sockets."""

from __future__ import annotations

import asyncio

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
    rest_of,
    start,
    until,
)


async def test_engine_that_refuses_gives_way_to_another(engines: Field) -> None:
    engines.refusing("a")
    await engines.add("b")
    call = await ask(engines.together(), first="a")
    assert outs(call) == [("a", "connect"), ("b", "ok")]
    assert engines.asked() == {"b": [ID + "-2"]}


async def test_engine_that_accepts_nothing_gives_way_and_is_left_at_once(engines: Field) -> None:
    engines.black_hole("a")
    await engines.add("b")
    together = engines.together(HealthRules(cooldown=3600.0))
    assert outs(await ask(together, first="a")) == [("a", "timeout_connect"), ("b", "ok")]
    assert engines.told == [("a", "open")]
    for _ in range(3):
        assert outs(await ask(together, first="a")) == [("b", "ok")]


async def test_engine_that_drops_a_fresh_connection_gives_way_to_another(engines: Field) -> None:
    await engines.add("a", Script(close=Close.DROP))
    await engines.add("b")
    call = await ask(engines.together(), first="a")
    assert outs(call) == [("a", "reset"), ("b", "ok")]
    assert engines.asked() == {"a": [ID], "b": [ID + "-2"]}


async def test_single_engine_that_drops_a_fresh_connection_is_not_asked_again(
    engines: Field,
) -> None:
    await engines.add("a", Script(close=Close.DROP))
    _, call = await failing(engines.together())
    assert outs(call) == [("a", "reset")]
    assert engines.asked() == {"a": [ID]}


async def test_idle_race_of_a_single_engine_is_run_again_on_a_fresh_connection(
    engines: Field,
) -> None:
    scripts = iter([FINE, Script(close=Close.DROP), FINE])
    await engines.add("a", lambda _: next(scripts))
    together = engines.together()
    await ask(together)
    assert outs(await ask(together)) == [("a", "reset"), ("a", "ok")]
    assert engines.asked() == {"a": [ID, ID, ID + "-2"]}
    # The engine only closed what was idle: nothing speaks against it.
    assert together.conditions()[0].reason == ""


async def test_idle_race_goes_to_another_engine_where_there_is_one(engines: Field) -> None:
    scripts = iter([FINE, Script(close=Close.DROP)])
    await engines.add("a", lambda _: next(scripts))
    await engines.add("b")
    together = engines.together()
    await ask(together, first="a")
    assert outs(await ask(together, first="a")) == [("a", "reset"), ("b", "ok")]
    assert together.conditions()[0].reason == ""


AFTER_A_BYTE = {
    "inside the head": Script(writes=(b"HTTP/1.1 2",), close=Close.RAW),
    "another protocol": Script(writes=(b"SSH-2.0-x\r\n\r\n",), close=Close.RAW),
}


@pytest.mark.parametrize("name", AFTER_A_BYTE)
async def test_nothing_is_tried_again_once_a_byte_of_an_answer_is_there(
    engines: Field, name: str
) -> None:
    await engines.add("a", AFTER_A_BYTE[name])
    await engines.add("b")
    _, call = await failing(engines.together(), first="a")
    assert [attempt.up for attempt in call.attempts] == ["a"]
    assert engines.asked() == {"a": [ID], "b": []}


@pytest.mark.parametrize("status", [400, 429, 500, 501, 504])
async def test_refusal_of_an_engine_is_its_answer(engines: Field, status: int) -> None:
    await engines.add("a", Script(writes=(b"{}",), status=status, content_type=JSON))
    await engines.add("b")
    call = start(engines.together(), first="a")
    assert (await call.head()).status == status
    call.close()
    assert engines.asked() == {"a": [ID], "b": []}


async def test_answer_that_breaks_off_is_not_tried_again(engines: Field) -> None:
    await engines.add("a", Script(writes=(b"abc",), close=Close.NO_LAST_CHUNK))
    await engines.add("b")
    together = engines.together()
    call = start(together, first="a")
    await call.head()
    with pytest.raises(UpstreamError) as caught:
        await rest_of(call)
    call.close()
    assert caught.value.kind is UpstreamFailure.INCOMPLETE
    assert outs(call) == [("a", "incomplete")]
    assert engines.asked() == {"a": [ID], "b": []}


async def test_engine_that_is_late_is_not_replaced(engines: Field) -> None:
    await engines.add("a", Script(close=Close.MUTE), limits=UpstreamLimits(first_byte_timeout=0.2))
    await engines.add("b")
    error, call = await failing(engines.together(), first="a")
    assert error.kind is UpstreamFailure.TIMEOUT_FIRST_BYTE
    assert outs(call) == [("a", "timeout_first_byte")]


async def test_two_tries_are_all_there_are(engines: Field) -> None:
    for name in ("a", "b", "c"):
        engines.refusing(name)
    error, call = await failing(engines.together(), first="b")
    assert error.kind is UpstreamFailure.CONNECT
    assert len(call.attempts) == 2
    assert len({attempt.up for attempt in call.attempts}) == 2


async def test_second_try_stays_with_engines_that_serve_the_model(engines: Field) -> None:
    engines.refusing("a").models = frozenset({"m"})
    await engines.add("b", models=("n",))
    _, call = await failing(engines.together(), first="a")
    assert outs(call) == [("a", "connect")]
    assert engines.asked() == {"b": []}


def refusal(status: int) -> Script:
    return Script(writes=(b"{}",), status=status, content_type=JSON)


@pytest.mark.parametrize("status", [502, 503])
async def test_engine_that_did_not_take_the_request_gives_way_to_another(
    engines: Field, status: int
) -> None:
    await engines.add("a", refusal(status))
    await engines.add("b")
    call = await ask(engines.together(), first="a")
    assert outs(call) == [("a", "status"), ("b", "ok")]
    assert engines.asked() == {"a": [ID], "b": [ID + "-2"]}
    assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]
    assert engines.upstreams[0].idle_connections == 0


@pytest.mark.parametrize("status", [502, 503])
async def test_refusal_of_the_only_engine_is_its_answer(engines: Field, status: int) -> None:
    await engines.add("a", refusal(status))
    call = start(engines.together())
    assert (await call.head()).status == status
    await rest_of(call)
    assert outs(call) == [("a", "ok")]
    assert engines.asked() == {"a": [ID]}


async def test_refusal_stands_where_the_other_engine_serves_another_model(engines: Field) -> None:
    await engines.add("a", refusal(503), models=("m",))
    await engines.add("b", models=("n",))
    call = start(engines.together(), first="a")
    assert (await call.head()).status == 503
    call.close()
    assert engines.asked() == {"a": [ID], "b": []}


async def test_refusal_of_the_second_engine_is_the_answer(engines: Field) -> None:
    for name in ("a", "b", "c"):
        await engines.add(name, refusal(503))
    call = start(engines.together(), first="a")
    assert (await call.head()).status == 503
    call.close()
    assert [attempt.out for attempt in call.attempts] == ["status", "ok"]
    assert sum(len(ids) for ids in engines.asked().values()) == 2


@pytest.mark.parametrize("health", [500, 503])
async def test_500_of_an_engine_that_calls_itself_dead_goes_to_another(
    engines: Field, health: int
) -> None:
    def play(request: EngineRequest) -> Script:
        return refusal(health if request.target == "/health" else 500)

    await engines.add("a", play)
    await engines.add("b")
    call = await ask(engines.together(HealthRules(interval=3600.0)), first="a")
    assert outs(call) == [("a", "status"), ("b", "ok")]


async def test_engine_that_calls_itself_dead_is_left_though_it_answers_500(engines: Field) -> None:
    def play(request: EngineRequest) -> Script:
        return refusal(503 if request.target == "/health" else 500)

    await engines.add("a", play)
    await engines.add("b")
    together = engines.together(HealthRules(interval=3600.0, failures=3))
    for _ in range(3):
        assert outs(await ask(together, first="a")) == [("a", "status"), ("b", "ok")]
    assert outs(await ask(together, first="a")) == [("b", "ok")]
    assert engines.told == [("a", "open")]


@pytest.mark.parametrize("interval", [0.0, 3600.0])
async def test_500_of_an_engine_that_lives_is_its_answer(engines: Field, interval: float) -> None:
    def play(request: EngineRequest) -> Script:
        return FINE if request.target == "/health" else refusal(500)

    await engines.add("a", play)
    await engines.add("b")
    call = start(engines.together(HealthRules(interval=interval)), first="a")
    assert (await call.head()).status == 500
    call.close()
    assert engines.asked()["b"] == []
    assert outs(call) == [("a", "ok")]


async def test_caller_that_leaves_while_a_500_is_looked_into_is_not_asked_for_again(
    engines: Field,
) -> None:
    def play(request: EngineRequest) -> Script:
        return Script(close=Close.MUTE) if request.target == "/health" else refusal(500)

    first = await engines.add("a", play)
    await engines.add("b")
    call = start(engines.together(HealthRules(interval=3600.0)), first="a")
    waiting = asyncio.ensure_future(call.head())
    await until(lambda: len(first.requests) == 2)
    call.close()
    await waiting
    with pytest.raises(UpstreamError) as caught:
        await call.read()
    assert caught.value.kind is UpstreamFailure.CLOSED
    assert engines.asked()["b"] == []
    assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]
