"""Several engines over real sockets: who is asked, and what a caller that leaves ends."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.engine.scripted import JSON, Close, Script
from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream import Engines, HealthRules
from tests.upstream.field import (
    FINE,
    ID,
    Field,
    ask,
    outs,
    rest_of,
    start,
    until,
)

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
