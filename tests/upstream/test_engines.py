"""Several engines over real sockets: who is asked, who is tried next, and who is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.engine.wire import EngineRequest
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import (
    EngineCall,
    Engines,
    HealthRules,
    Upstream,
    UpstreamLimits,
    parse_engine_url,
)
from tests.upstream.holes import black_hole, refusing

ID = "0123456789abcdef0123456789abcdef"
BODY = b'{"model":"m"}'
FINE = Script(writes=(b"ok",), close=Close.LENGTH)
PATIENT = UpstreamLimits(
    connect_timeout=60.0, first_byte_timeout=60.0, idle_timeout=60.0, total_timeout=120.0
)
Play = Script | Callable[[EngineRequest], Script]


@dataclass
class Field:
    """Engines by name, what they play, and where they are."""

    stack: AsyncExitStack
    holes: ExitStack
    engines: dict[str, ScriptedEngine] = field(default_factory=dict)
    upstreams: list[Upstream] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    async def add(self, name: str, play: Play = FINE, **options: Any) -> ScriptedEngine:
        engine = ScriptedEngine(play)
        address = await engine.start()
        self.stack.push_async_callback(engine.close)
        self.engines[name] = engine
        self.place(name, address, **options)
        return engine

    def place(
        self, name: str, address: str, limits: UpstreamLimits = PATIENT, **options: Any
    ) -> Upstream:
        upstream = Upstream(parse_engine_url(address), limits, name=name, **options)
        self.upstreams.append(upstream)
        return upstream

    def refusing(self, name: str) -> Upstream:
        return self.place(name, self.holes.enter_context(refusing()))

    def black_hole(self, name: str, seconds: float = 0.2) -> Upstream:
        limits = UpstreamLimits(connect_timeout=seconds, total_timeout=120.0)
        return self.place(name, self.holes.enter_context(black_hole()), limits)

    def together(self, rules: HealthRules | None = None) -> Engines:
        engines = Engines(
            self.upstreams, rules, tell=lambda name, state: self.told.append((name, state))
        )
        self.stack.callback(engines.close)
        return engines

    def have_asked(self, count: int) -> bool:
        return sum(len(engine.requests) for engine in self.engines.values()) == count

    def asked(self) -> dict[str, list[str | None]]:
        """The ids of the requests that every engine got."""
        return {
            name: [request.header("x-request-id") for request in engine.requests]
            for name, engine in self.engines.items()
        }


@pytest.fixture
async def engines() -> AsyncIterator[Field]:
    async with AsyncExitStack() as stack:
        with ExitStack() as holes:
            yield Field(stack, holes)


def caller_of(engines: Engines, name: str, model: str | None = "m") -> bytes:
    """A caller in whose order this engine is first."""
    return next(
        caller
        for caller in (number.to_bytes(32) for number in range(1000))
        if engines._order(model, caller)[0].name == name
    )


def start(engines: Engines, first: str = "", model: str | None = "m") -> EngineCall:
    caller = caller_of(engines, first, model) if first else b""
    return engines.start(path="/v1/x", body=BODY, model=model, request_id=ID, caller=caller)


async def ask(engines: Engines, first: str = "", model: str | None = "m") -> EngineCall:
    call = start(engines, first, model)
    try:
        await call.head()
        await rest_of(call)
    finally:
        call.close()
    return call


async def rest_of(call: EngineCall) -> None:
    while await call.read():
        pass


async def failing(engines: Engines, first: str = "") -> tuple[UpstreamError, EngineCall]:
    call = start(engines, first)
    with pytest.raises(UpstreamError) as caught:
        await call.head()
    call.close()
    return caught.value, call


def outs(call: EngineCall) -> list[tuple[str, str]]:
    return [(attempt.up, attempt.out) for attempt in call.attempts]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.01)


# -- models ----------------------------------------------------------------------------------


async def test_request_goes_to_an_engine_that_serves_its_model(engines: Field) -> None:
    await engines.add("a", models=("m", "both"))
    await engines.add("b", models=("n", "both"))
    together = engines.together()
    for model, names in {"m": {"a"}, "n": {"b"}, "both": {"a", "b"}, None: {"a", "b"}}.items():
        found = {
            pair[0]
            for number in range(40)
            for pair in [_first(together, model, number.to_bytes(32))]
        }
        assert found == names
        assert together.serves(model)
    assert not together.serves("other")


def _first(engines: Engines, model: str | None, caller: bytes) -> tuple[str]:
    return (engines._order(model, caller)[0].name,)


async def test_engine_without_a_list_serves_any_model(engines: Field) -> None:
    await engines.add("a", models=("m",))
    await engines.add("b")
    together = engines.together()
    assert together.serves("other")
    assert {_first(together, "other", n.to_bytes(32)) for n in range(20)} == {("b",)}
    assert {_first(together, "m", n.to_bytes(32)) for n in range(20)} == {("a",), ("b",)}


async def test_many_callers_and_models_do_not_grow_the_memory(engines: Field) -> None:
    await engines.add("a")
    await engines.add("b")
    together = engines.together()
    for number in range(9000):
        together._order(f"model-{number}", number.to_bytes(32))
    assert len(together._orders) <= 8192


async def test_single_engine_is_asked_whatever_the_model(engines: Field) -> None:
    await engines.add("a")
    together = engines.together()
    assert outs(await ask(together, model="anything")) == [("a", "ok")]
    assert together.label is None


async def test_label_is_that_of_all_engines_or_none(engines: Field) -> None:
    await engines.add("a", label="vllm/1")
    assert engines.together().label == "vllm/1"
    await engines.add("b", label="vllm/1")
    assert engines.together().label == "vllm/1"
    await engines.add("c", label="vllm/2", local=True)
    together = engines.together()
    assert together.label is None
    call = await ask(together, first="c")
    assert (call.label, call.attempts[0].local) == ("vllm/2", True)


# -- the second try --------------------------------------------------------------------------


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


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
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


# -- breakers --------------------------------------------------------------------------------


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
    drops = [Script(close=Close.DROP)]

    def play(_: EngineRequest) -> Script:
        going.set()
        return drops.pop() if drops else Script(close=Close.MUTE)

    await engines.add("a", play)
    await engines.add("b")
    together = engines.together(HealthRules(failures=1, cooldown=0.3))
    assert outs(await ask(together, first="a")) == [("a", "reset"), ("b", "ok")]
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
    for _ in range(2):
        assert outs(await ask(together, first="a")) == [("a", "ok")]
    assert outs(await ask(together, first="a")) == [("b", "ok")]
    assert together.conditions()[0].reason == "status"


async def test_refusals_of_a_single_engine_stay_its_own(engines: Field) -> None:
    await engines.add("a", Script(writes=(b"{}",), status=503, content_type=JSON))
    together = engines.together(HealthRules(failures=1, cooldown=3600.0))
    for _ in range(3):
        assert outs(await ask(together)) == [("a", "ok")]
    assert together.healthy


# -- load ------------------------------------------------------------------------------------


async def test_requests_under_way_are_spread_by_weight(engines: Field) -> None:
    await engines.add("a", Script(close=Close.MUTE), weight=1)
    await engines.add("b", Script(close=Close.MUTE), weight=3)
    together = engines.together()
    calls, tasks = [], []
    for count in range(1, 41):
        call = start(together, first="a")
        calls.append(call)
        tasks.append(asyncio.ensure_future(call.head()))
        await until(partial(engines.have_asked, count))
    asked = engines.asked()
    assert len(asked["a"]) <= 13
    assert len(asked["b"]) >= 27
    for call in calls:
        call.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]


async def test_nothing_is_under_way_after_any_end(engines: Field) -> None:
    scripts = [FINE, Script(close=Close.DROP), Script(writes=(b"x",), close=Close.NO_LAST_CHUNK)]
    await engines.add("a", lambda _: scripts[0])
    engines.refusing("b")
    together = engines.together(HealthRules(failures=100))
    while scripts:
        for first in ("a", "b"):
            call = start(together, first=first)
            try:
                await call.head()
                await rest_of(call)
            except UpstreamError:
                pass
            call.close()
            call.close()
            assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]
        del scripts[0]


# -- a caller that leaves --------------------------------------------------------------------


async def test_leaving_during_the_connect_ends_it_and_tries_nothing_more(engines: Field) -> None:
    engines.black_hole("a", seconds=60.0)
    await engines.add("b")
    together = engines.together()
    call = start(together, first="a")
    waiting = asyncio.ensure_future(call.head())
    await until(lambda: call._connecting is not None)
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await asyncio.wait_for(waiting, 60)
    assert caught.value.kind is UpstreamFailure.CLOSED
    assert engines.asked() == {"b": []}
    assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]
    assert together.conditions()[0].reason == ""


async def test_leaving_during_the_second_try_closes_its_connection(engines: Field) -> None:
    engines.refusing("a")
    second = await engines.add("b", Script(close=Close.MUTE))
    call = start(engines.together(), first="a")
    waiting = asyncio.ensure_future(call.head())
    await until(lambda: second.requests)
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await asyncio.wait_for(waiting, 60)
    assert caught.value.kind is UpstreamFailure.CLOSED
    await asyncio.wait_for(second.left.wait(), 60)
    assert outs(call) == [("a", "connect"), ("b", "closed")]


async def test_leaving_during_the_second_connect_ends_it(engines: Field) -> None:
    engines.refusing("a")
    engines.black_hole("b", seconds=60.0)
    together = engines.together()
    call = start(together, first="a")
    waiting = asyncio.ensure_future(call.head())
    await until(lambda: call.attempts and call._connecting is not None)
    call.close()
    with pytest.raises(UpstreamError) as caught:
        await asyncio.wait_for(waiting, 60)
    assert caught.value.kind is UpstreamFailure.CLOSED
    assert outs(call) == [("a", "connect"), ("b", "closed")]
    assert together.conditions()[1].reason == ""
    assert [upstream.in_flight for upstream in engines.upstreams] == [0, 0]


# -- control calls ---------------------------------------------------------------------------


async def test_document_is_fetched_from_the_first_engine_that_is_up(engines: Field) -> None:
    engines.black_hole("a")
    await engines.add("b", Script(writes=(b"[]",), content_type=JSON))
    together = engines.together(HealthRules(cooldown=3600.0))
    await ask(together, first="a")
    assert (await together.get("/v1/models", request_id=ID)).body == b"[]"


async def test_document_is_fetched_from_every_engine_and_failures_are_told(engines: Field) -> None:
    engines.refusing("a")
    await engines.add("b", Script(writes=(b"[]",), content_type=JSON))
    found = await engines.together().get_each("/v1/models", request_id=ID)
    assert [one.name for one, _ in found] == ["a", "b"]
    first, second = (answer for _, answer in found)
    assert isinstance(first, UpstreamError)
    assert not isinstance(second, UpstreamError)
    assert second.body == b"[]"


async def test_document_that_never_comes_is_given_up_in_its_own_time(engines: Field) -> None:
    mute = await engines.add("a", Script(close=Close.MUTE))
    with pytest.raises(UpstreamError) as caught:
        await engines.upstreams[0].get("/v1/models", request_id=ID, seconds=0.2)
    assert caught.value.kind is UpstreamFailure.TIMEOUT_TOTAL
    await asyncio.wait_for(mute.left.wait(), 60)
