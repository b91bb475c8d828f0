"""The look that a gateway takes at its engines before it opens its port.

An engine in development mode, or one that takes adapters, can be changed after it was measured by
whoever reaches it.  No receipt should be made in front of one.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attestation.errors import UnavailableError
from gateway.errors import UpstreamError
from gateway.upstream.surface import FORBIDDEN_ROUTES, GONE, REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.upstream.client import Upstream

_NOT_THERE: Final = 404
_SHOWN: Final = 3
_ASK_AGAIN_SECONDS: Final = 0.5


class Demand(StrEnum):
    """What a gateway asks of its engines before it opens its port."""

    OFF = "off"
    """Nothing: no engine is asked."""
    ANSWERING = "answering"
    """No forbidden route on an engine that answers; one that is not there yet is not asked."""
    REQUIRED = "required"
    """Every engine answers within the patience, and has no forbidden route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLook:
    """Whether an engine answered, and which forbidden routes it has."""

    answered: bool
    found: tuple[str, ...] = ()


async def look_at(upstream: Upstream, paths: Sequence[str] = FORBIDDEN_ROUTES) -> EngineLook:
    """Ask for every path with GET, which changes nothing; 404 alone says that it is not there.

    An engine that cannot be reached for one of them, or keeps silent, has not answered, whatever
    it said before.
    """
    found: list[str] = []
    for path in paths:
        try:
            answer = await upstream.get(path, request_id=REQUEST_ID)
        except UpstreamError as error:
            if error.kind in GONE or error.kind.is_timeout:
                return EngineLook(answered=False, found=tuple(found))
            found.append(path)  # a page longer than we read, or no HTTP: something is there
        else:
            if answer.status != _NOT_THERE:
                found.append(path)
    return EngineLook(answered=True, found=tuple(found))


async def check_engines(
    upstreams: Sequence[Upstream],
    demand: Demand,
    *,
    patience: float = 0.0,
    unchecked: Callable[[str], None] = lambda _name: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Raise `UnavailableError` (code "engine_routes") unless the engines are as `demand` asks.

    `unchecked` is told the name of every engine that did not answer and was let pass; `patience`
    are the seconds that one may take until it answers, where that is demanded.
    """
    if demand is Demand.OFF:
        return
    deadline = monotonic() + (patience if demand is Demand.REQUIRED else 0.0)
    for upstream in upstreams:
        look = await look_at(upstream)
        while not (look.answered or look.found) and monotonic() < deadline:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
            look = await look_at(upstream)
        if look.found:
            raise _open(upstream.name, look.found)
        if look.answered:
            continue
        if demand is Demand.REQUIRED:
            raise _silent(upstream.name, patience)
        unchecked(upstream.name)


def _open(name: str, found: Sequence[str]) -> UnavailableError:
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return UnavailableError(
        f"the engine {name} can be changed or stopped by whoever reaches it",
        code="engine_routes",
        expected="404 from every route of development mode and of adapters",
        observed=", ".join(found[:_SHOWN]) + more,
        hint="unset VLLM_SERVER_DEV_MODE and VLLM_ALLOW_RUNTIME_LORA_UPDATING, drop --enable-lora, "
        "and start the engine anew; `attested doctor` shows the rest",
    )


def _silent(name: str, patience: float) -> UnavailableError:
    return UnavailableError(
        f"the engine {name} does not answer, so its routes cannot be looked at",
        code="engine_routes",
        expected=f"an answer within {patience:g} s, because of selfcheck.routes = required",
        observed="none",
        hint="start the engine first, or raise selfcheck.patience_seconds",
    )
