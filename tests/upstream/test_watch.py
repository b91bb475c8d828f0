"""Health checks over real sockets: what they ask, when they do not, and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.engine.scripted import Close, Script, ScriptedEngine
from gateway.errors import UpstreamError
from gateway.upstream import Engines, HealthRules, Upstream, UpstreamLimits, parse_engine_url
from gateway.upstream.breaker import EngineState
from gateway.upstream.watch import Watch, WatchRules
from tests.upstream.holes import black_hole, refusing

ID = "0123456789abcdef0123456789abcdef"
WELL = Script(writes=(b"",), close=Close.LENGTH)
QUICK = HealthRules(interval=0.02, cooldown=0.02, failures=2, timeout=60.0)
ASKED = WatchRules(interval=1.0, timeout=60.0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "good"),
    [
        (WELL, True),
        (Script(status=404, close=Close.LENGTH), True),
        (Script(status=500, close=Close.LENGTH), False),
        (Script(status=503, close=Close.LENGTH), False),
        (Script(close=Close.DROP), False),
        (Script(writes=(b"x" * 70_000,)), False),
    ],
)
async def test_any_answer_below_500_is_a_good_one(script: Script, good: bool) -> None:
    engine = ScriptedEngine(script)
    upstream = Upstream(parse_engine_url(await engine.start()))
    await Watch(upstream, ASKED).ask()
    assert upstream.breaker.clear is good
    assert upstream.breaker.reason == ("" if good else "unhealthy")
    (request,) = engine.requests[-1:]
    assert (request.method, request.target, request.body) == ("GET", "/health", b"")
    assert len(request.header("x-request-id") or "") == 32
    upstream.close()
    await engine.close()


async def test_engine_that_hangs_is_given_up_in_time() -> None:
    engine = ScriptedEngine(Script(close=Close.MUTE))
    upstream = Upstream(parse_engine_url(await engine.start()))
    await Watch(upstream, WatchRules(timeout=0.2)).ask()
    assert upstream.breaker.reason == "unhealthy"
    await asyncio.wait_for(engine.left.wait(), 60)
    upstream.close()
    await engine.close()


async def test_engine_out_of_reach_is_told_as_such() -> None:
    with refusing() as refused, black_hole() as hole:
        near = Upstream(parse_engine_url(refused))
        far = Upstream(parse_engine_url(hole), UpstreamLimits(connect_timeout=0.2))
        for upstream in (near, far):
            await Watch(upstream, ASKED).ask()
        assert near.breaker.reason == "connect"
        assert far.breaker.state is EngineState.OPEN


async def test_engine_that_falls_ill_is_left_and_comes_back_without_any_request() -> None:
    told: list[str] = []
    engine = ScriptedEngine(Script(status=503, close=Close.LENGTH))
    upstream = Upstream(parse_engine_url(await engine.start()))
    engines = Engines([upstream], QUICK, tell=lambda _, state: told.append(state))
    engines.watch()
    await until(lambda: not engines.healthy)
    assert len(engine.requests) >= 2
    with pytest.raises(UpstreamError):
        engines.start(path="/v1/x", body=b"", model=None, request_id=ID)
    engine.set(WELL)
    await until(lambda: engines.healthy)
    assert told == ["open", "up"]
    assert {request.target for request in engine.requests} == {"/health"}
    engines.close()
    await engine.close()


async def test_engine_that_starts_late_is_found() -> None:
    with refusing() as address:
        upstream = Upstream(parse_engine_url(address))
        engines = Engines([upstream], QUICK)
        engines.watch()
        await until(lambda: not engines.healthy)
    engine = ScriptedEngine(WELL)
    await engine.start(port=int(address.rpartition(":")[2]))
    await until(lambda: engines.healthy)
    engines.close()
    await engine.close()


async def test_engine_that_answers_requests_is_not_asked() -> None:
    engine = ScriptedEngine(WELL)
    upstream = Upstream(parse_engine_url(await engine.start()))
    watch = Watch(upstream, WatchRules(interval=3600.0))
    watch.start()
    upstream.heard_at = asyncio.get_running_loop().time()
    watch._due()
    assert watch._asking is None
    # It said nothing for long: now it is asked.
    upstream.heard_at -= 7200.0
    watch._due()
    await until(lambda: engine.requests)
    watch.close()
    upstream.close()
    await engine.close()


@pytest.mark.parametrize("share", [1, 8])
async def test_processes_divide_the_questions_to_a_healthy_engine(share: int) -> None:
    with refusing() as address:
        upstream = Upstream(parse_engine_url(address))
    loop = asyncio.get_running_loop()
    watch = Watch(upstream, WatchRules(interval=100.0, cooldown=10.0, share=share))
    watch.start()
    assert watch._timer is not None
    pause = watch._timer.when() - loop.time()
    assert 70.0 * share < pause <= 125.0 * share
    # Each of them has to learn that an engine is back.
    upstream.breaker.failed("timeout_connect", loop.time())
    watch.hurry()
    assert 7.0 < watch._timer.when() - loop.time() <= 12.5
    watch.close()
    assert watch._timer is None


async def test_nothing_is_asked_without_an_interval_or_after_the_end() -> None:
    engine = ScriptedEngine(Script(close=Close.MUTE))
    upstream = Upstream(parse_engine_url(await engine.start()))
    quiet = Watch(upstream, WatchRules(interval=0.0))
    quiet.start()
    quiet.hurry()
    assert quiet._timer is None
    watch = Watch(upstream, WatchRules(interval=0.01, timeout=60.0))
    watch.start()
    await until(lambda: engine.requests)
    watch.close()
    await asyncio.wait_for(engine.left.wait(), 60)
    await asyncio.sleep(0)
    assert (watch._timer, watch._asking) == (None, None)
    assert len(engine.requests) == 1
    upstream.close()
    await engine.close()
