"""Which of several engines a request goes to.

An agent's next request repeats the beginning of its last one, and an engine answers it faster
if it still has that beginning in its prefix cache.  So every caller has an order of engines of
its own, fixed by weighted rendezvous hashing: equal callers, equal order; an engine that comes or
goes moves only its share of the callers.  The first engine of the order takes the request unless
it already runs more than its share (consistent hashing with bounded loads, Mirrokni, Thorup and
Zadimoghaddam, 2018): then the next one does.  Weights are therefore shares of the callers while
there is little to do, and shares of the requests under way when there is much.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.upstream.client import Upstream

SLACK: Final = 1.25
"""How much more than its share of the requests under way an engine may run."""


def ranked(engines: Iterable[Upstream], caller: bytes) -> tuple[Upstream, ...]:
    """Return the engines in a caller's order."""
    return tuple(sorted(engines, key=lambda engine: _distance(engine, caller)))


def pick(order: tuple[Upstream, ...], now: float, caller: bytes = b"") -> Upstream | None:
    """Return the engine that takes the caller's next request and claim it; None if none is up.

    `now` is in the breakers' steady seconds.  An engine that broke this caller's requests alone
    gets more of them only if no other one is up.
    """
    able = [
        engine for engine in order if engine.breaker.clear or engine.breaker.admits(now, caller)
    ]
    if not able:
        return None
    able = [
        engine for engine in able if engine.breaker.clear or not engine.breaker.avoided(now, caller)
    ] or able
    running = 1 + sum(engine.in_flight for engine in able)
    per_weight = SLACK * running / sum(engine.weight for engine in able)
    # One is below its bound: all bounds together exceed what runs.
    chosen = next(one for one in able if one.in_flight < math.ceil(per_weight * one.weight))
    chosen.breaker.claim(now, caller)
    return chosen


def _distance(engine: Upstream, caller: bytes) -> float:
    """Exponentially distributed with the engine's weight as rate: the least of them is first."""
    drawn = hashlib.blake2b(engine.name.encode("ascii"), key=caller[:64], digest_size=8).digest()
    uniform = (int.from_bytes(drawn) + 1) / (1 << 64)
    return -math.log(uniform) / engine.weight
