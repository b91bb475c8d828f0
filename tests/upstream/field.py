"""Engines that play what they are told, together as the gateway sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest

from gateway.engine.scripted import Close, Script, ScriptedEngine
from gateway.engine.wire import EngineRequest
from gateway.errors import UpstreamError
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


def caller_of(engines: Engines, name: str, model: str | None = "m", nth: int = 0) -> bytes:
    """The nth caller in whose order this engine is first."""
    callers = (number.to_bytes(32) for number in range(1000))
    own = (caller for caller in callers if engines._order(model, caller)[0].name == name)
    return next(islice(own, nth, None))


def start(engines: Engines, first: str = "", model: str | None = "m", nth: int = 0) -> EngineCall:
    caller = caller_of(engines, first, model, nth) if first else bytes([nth])
    return engines.start(path="/v1/x", body=BODY, model=model, request_id=ID, caller=caller)


async def ask(
    engines: Engines, first: str = "", model: str | None = "m", nth: int = 0
) -> EngineCall:
    call = start(engines, first, model, nth)
    try:
        await call.head()
        await rest_of(call)
    finally:
        call.close()
    return call


async def answer_of(call: EngineCall) -> None:
    await call.head()
    await rest_of(call)


async def rest_of(call: EngineCall) -> None:
    while await call.read():
        pass


async def failing(
    engines: Engines, first: str = "", nth: int = 0
) -> tuple[UpstreamError, EngineCall]:
    call = start(engines, first, nth=nth)
    with pytest.raises(UpstreamError) as caught:
        await answer_of(call)
    call.close()
    return caught.value, call


def outs(call: EngineCall) -> list[tuple[str, str]]:
    return [(attempt.up, attempt.out) for attempt in call.attempts]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.01)
