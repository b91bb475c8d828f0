"""The engines that a gateway's settings describe, and what is asked of them before it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.upstream.address import EngineAddress, parse_engine_url
from gateway.upstream.client import Upstream
from gateway.upstream.engines import Engines, HealthRules
from gateway.upstream.limits import UpstreamLimits
from gateway.upstream.self_check import Demand, check_engines

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.settings.engines import EngineSettings, UpstreamSettings
    from gateway.telemetry.events import Events
    from gateway.upstream.engines import Tell


def engines_of(settings: Settings, tell: Tell, share: int = 1) -> Engines:
    """Return the engines of these settings; `share` processes watch them together.

    `tell` is called with an engine's name and its new state.
    """
    health = settings.health
    rules = HealthRules(
        path=health.path,
        interval=health.interval,
        timeout=health.timeout,
        failures=health.failures,
        cooldown=health.cooldown,
        share=share,
    )
    return Engines(map(_upstream_of, settings.engines), rules, tell=tell)


def _upstream_of(settings: EngineSettings) -> Upstream:
    limits = UpstreamLimits(
        connect_timeout=settings.connect_timeout,
        first_byte_timeout=settings.first_byte_timeout,
        idle_timeout=settings.idle_timeout,
        total_timeout=settings.total_timeout,
    )
    # Only a Unix socket is known to end in this trust domain; a port of it could be forwarded.
    return Upstream(
        _address_of(settings),
        limits,
        name=settings.name,
        local=settings.uds is not None,
        label=settings.engine,
        weight=settings.weight,
        models=settings.models,
    )


def _address_of(settings: UpstreamSettings) -> EngineAddress:
    if settings.url is not None:
        return parse_engine_url(settings.url)
    return EngineAddress(path=str(settings.uds))


async def check_own_engines(settings: Settings, events: Events | None = None) -> None:
    """Raise `UnavailableError` if an engine offers what the settings do not let pass.

    Nothing listens yet when this is asked: no caller reaches a gateway whose engine is open.
    `events` are told of engines that did not answer.
    """

    def unchecked(name: str) -> None:
        if events is not None:
            events.emit("engine.unchecked", engine=name)

    limits = UpstreamLimits(first_byte_timeout=5.0, idle_timeout=5.0, total_timeout=10.0)
    upstreams = [
        Upstream(_address_of(engine), limits, name=engine.name) for engine in settings.engines
    ]
    try:
        await check_engines(
            upstreams,
            Demand(settings.selfcheck.routes),
            patience=settings.selfcheck.patience_seconds,
            unchecked=unchecked,
        )
    finally:
        for upstream in upstreams:
            upstream.close()
