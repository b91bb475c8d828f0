"""Breakers for tests, with the time as a parameter."""

from __future__ import annotations

from gateway.errors import UpstreamFailure
from gateway.upstream.breaker import Breaker, BreakerRules, EngineState

RULES = BreakerRules(failures=3, cooldown=10.0)
WATCHED = BreakerRules(failures=3, cooldown=10.0, watched=True)
RESET, REFUSED = str(UpstreamFailure.RESET), str(UpstreamFailure.CONNECT)
SILENT = str(UpstreamFailure.TIMEOUT_CONNECT)


def opened(reason: str = RESET, rules: BreakerRules = RULES, at: float = 100.0) -> Breaker:
    breaker = Breaker(rules)
    for _ in range(rules.failures):
        breaker.failed(reason, at)
    assert breaker.state is EngineState.OPEN
    return breaker


def trial_of(breaker: Breaker, now: float, caller: bytes | None = None) -> int:
    """Claim a trial and return its number."""
    assert breaker.claim(now, caller)
    assert breaker.state is EngineState.HALF_OPEN
    return breaker.trial


X, Y, Z = b"x", b"y", b"z"
