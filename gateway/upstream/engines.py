"""All engines behind the gateway: who serves which model, who is up, who gets the next request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.errors import UpstreamError, UpstreamFailure
from gateway.upstream.breaker import Breaker, BreakerRules, EngineState
from gateway.upstream.call import EngineCall
from gateway.upstream.choice import pick, ranked
from gateway.upstream.watch import Watch, WatchRules

if TYPE_CHECKING:
    from gateway.upstream.client import Answer, Upstream

    Tell = Callable[[str, str], None]

_MOST_ORDERS: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """How engines are watched, see `gateway.settings.engines.HealthSettings`.

    `share` is how many processes like this one watch the same engines.
    """

    path: str = "/health"
    interval: float = 0.0
    timeout: float = 5.0
    failures: int = 3
    cooldown: float = 2.0
    share: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCondition:
    """What is known of one engine: `state` is up, half_open or open; `reason` what its last
    failure was, "" without one.
    """

    name: str
    state: str
    reason: str


def _ignore(_name: str, _state: str) -> None:
    """Tell nobody."""


class Engines:
    """At least one engine; with one alone, a request costs what it costs without this class."""

    def __init__(
        self,
        engines: Iterable[Upstream],
        rules: HealthRules | None = None,
        *,
        tell: Tell = _ignore,
    ) -> None:
        """`tell` is called with an engine's name and its new state, whenever that changes."""
        self._engines = tuple(engines)
        self._only = self._engines[0] if len(self._engines) == 1 else None
        self._rules = rules or HealthRules()
        self._watches = {engine.name: self._watch_of(engine) for engine in self._engines}
        self._tell = tell
        for engine in self._engines:
            engine.breaker = self._breaker_of(engine)
            engine.health_path = self._rules.path if self._rules.interval > 0 else None
        named = frozenset[str]().union(*(engine.models for engine in self._engines))
        self._by_model = {model: self._serving(model) for model in named}
        self._any = tuple(engine for engine in self._engines if not engine.models)
        self._orders: dict[tuple[str | None, bytes], tuple[Upstream, ...]] = {}

    @property
    def label(self) -> str | None:
        """Name and version that receipts give the engine, None if engines differ in it."""
        labels = {engine.label for engine in self._engines}
        return labels.pop() if len(labels) == 1 else None

    @property
    def healthy(self) -> bool:
        """Whether any engine is up, or the next request would try one."""
        return bool(self._standing())

    @property
    def reason(self) -> str:
        """Why it is not healthy: a stable code, "" if it is."""
        return "" if self.healthy else "engines_down"

    def conditions(self) -> tuple[EngineCondition, ...]:
        """Return what is known of every engine, in the order of the settings."""
        return tuple(
            EngineCondition(
                name=engine.name, state=str(engine.breaker.state), reason=engine.breaker.reason
            )
            for engine in self._engines
        )

    def serves(self, model: str | None) -> bool:
        """Whether any engine, up or not, takes requests for this model."""
        return bool(self._any) or model is None or model in self._by_model

    def start(
        self,
        *,
        path: str,
        body: bytes,
        model: str | None,
        request_id: str,
        accept: bytes | None = None,
        caller: bytes = b"",
    ) -> EngineCall:
        """Choose an engine and prepare a POST of exactly `body` to it.

        Nothing is sent before the call's `head()` is awaited.  `caller` tells callers apart, so
        that each keeps to the engine that remembers its prompts.  Raises `UpstreamError` of kind
        unavailable, with `retry_after`, while no engine for the model is up.
        """
        engine = self._only
        order: tuple[Upstream, ...] = ()
        if engine is None:
            order = self._order(model, caller)
            engine = pick(order, asyncio.get_running_loop().time(), caller)
            if engine is None:
                raise _unavailable(order)
        elif not engine.breaker.clear and not engine.breaker.claim(
            asyncio.get_running_loop().time(), caller
        ):
            raise _unavailable(self._engines)
        return EngineCall(engine, path, body, request_id, accept, order=order, caller=caller)

    async def get(self, path: str, *, request_id: str) -> Answer:
        """Fetch a small document from the first engine that is up, or raise `UpstreamError`."""
        engines = self._standing()
        if not engines:
            raise _unavailable(self._engines)
        return await engines[0].get(path, request_id=request_id)

    async def get_each(
        self, path: str, *, request_id: str
    ) -> list[tuple[Upstream, Answer | UpstreamError]]:
        """Fetch a small document from every engine that is up, at once.

        Raises `UpstreamError` of kind unavailable if none is.
        """
        engines = self._standing()
        if not engines:
            raise _unavailable(self._engines)
        answers = await asyncio.gather(*(_fetched(engine, path, request_id) for engine in engines))
        return list(zip(engines, answers, strict=True))

    def watch(self) -> None:
        """Begin to ask the engines how they are, as the rules say."""
        for watch in self._watches.values():
            watch.start()

    def close(self) -> None:
        """Ask nothing more, close idle connections; calls under way end with their requests."""
        for watch in self._watches.values():
            watch.close()
        for engine in self._engines:
            engine.close()

    def _order(self, model: str | None, caller: bytes) -> tuple[Upstream, ...]:
        """Return the caller's order of the engines that serve a model."""
        if model not in self._by_model:
            model = None if model is None else ""
        order = self._orders.get((model, caller))
        if order is None:
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            order = self._orders[model, caller] = ranked(self._candidates(model), caller)
        return order

    def _candidates(self, model: str | None) -> tuple[Upstream, ...]:
        """`None` is no model: any engine may choose one; "" is any model that none names."""
        if model is None:
            return self._engines
        return self._by_model.get(model, self._any)

    def _serving(self, model: str) -> tuple[Upstream, ...]:
        return tuple(
            engine for engine in self._engines if not engine.models or model in engine.models
        )

    def _standing(self) -> tuple[Upstream, ...]:
        """Return the engines that are up or on trial, or that a request would try."""
        now = asyncio.get_running_loop().time()
        return tuple(
            engine
            for engine in self._engines
            if engine.breaker.state is not EngineState.OPEN or engine.breaker.admits(now)
        )

    def _breaker_of(self, engine: Upstream) -> Breaker:
        rules = self._rules
        name, watch = engine.name, self._watches[engine.name]

        def told(state: EngineState) -> None:
            if state is EngineState.OPEN:
                watch.hurry()
            self._tell(name, str(state))

        return Breaker(
            BreakerRules(
                failures=rules.failures,
                cooldown=rules.cooldown,
                watched=rules.interval > 0,
                by_status=self._only is None,
            ),
            told,
        )

    def _watch_of(self, engine: Upstream) -> Watch:
        rules = self._rules
        return Watch(
            engine,
            WatchRules(
                path=rules.path,
                interval=rules.interval,
                timeout=rules.timeout,
                cooldown=rules.cooldown,
                share=rules.share,
            ),
        )


async def _fetched(engine: Upstream, path: str, request_id: str) -> Answer | UpstreamError:
    try:
        return await engine.get(path, request_id=request_id)
    except UpstreamError as error:
        return error


def _unavailable(engines: tuple[Upstream, ...]) -> UpstreamError:
    now = asyncio.get_running_loop().time()
    seconds = min((engine.breaker.seconds_left(now) for engine in engines), default=0.0)
    return UpstreamError(
        UpstreamFailure.UNAVAILABLE,
        "no engine for the request is up",
        untouched=True,
        retry_after=max(1, math.ceil(seconds)),
    )
