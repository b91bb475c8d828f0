"""What health checks do to the breaker of an engine, good ones and bad ones."""

from __future__ import annotations

import pytest

from gateway.errors import UpstreamFailure
from gateway.upstream.breaker import (
    BAD_STATUS,
    BROKEN_STREAM,
    UNHEALTHY,
    Breaker,
    BreakerRules,
    EngineState,
)
from tests.upstream.breakers import (
    REFUSED,
    RESET,
    RULES,
    SILENT,
    WATCHED,
    X,
    Y,
    opened,
    trial_of,
)


@pytest.mark.parametrize("reason", [REFUSED, SILENT, UNHEALTHY])
def test_bad_health_check_ends_any_trial_and_blames_no_caller(reason: str) -> None:
    breaker = opened()
    trial_of(breaker, 110.0, X)
    breaker.ailing(reason, 111.0)
    assert (breaker.state, breaker.reason) == (EngineState.OPEN, reason)
    assert breaker.claim(121.0, X)


def test_good_health_check_ends_a_row_of_bad_ones() -> None:
    breaker = Breaker(WATCHED)
    for _ in range(5):
        breaker.ailing(UNHEALTHY, 1.0)
        breaker.ailing(REFUSED, 1.0)
        assert not breaker.clear
        breaker.checked()
        assert (str(breaker.state), breaker.clear, breaker.reason) == ("up", True, "")
    for _ in range(3):
        breaker.ailing(UNHEALTHY, 1.0)
    assert breaker.state is EngineState.OPEN


def test_good_health_check_leaves_counted_what_requests_met() -> None:
    breaker = Breaker(WATCHED)
    breaker.failed(RESET, 1.0, X)
    breaker.failed(REFUSED, 1.0, X)
    breaker.checked()
    assert (breaker.clear, breaker.reason) == (False, REFUSED)
    breaker.failed(REFUSED, 1.0, Y)
    assert breaker.state is EngineState.OPEN


def test_good_health_check_after_a_bad_one_leaves_counted_what_requests_met() -> None:
    breaker = Breaker(BreakerRules(failures=4))
    breaker.failed(RESET, 1.0, X)
    breaker.broke(BROKEN_STREAM, 1.0, X)
    breaker.ailing(UNHEALTHY, 1.0)
    breaker.checked()
    assert (breaker.clear, breaker.reason) == (False, RESET)
    for _ in range(2):
        breaker.failed(RESET, 1.0, Y)
    assert str(breaker.state) == "up"
    breaker.failed(RESET, 1.0, Y)
    assert breaker.state is EngineState.OPEN


@pytest.mark.parametrize("reason", [REFUSED, SILENT, UNHEALTHY])
def test_watched_engine_out_of_reach_comes_back_by_a_health_check_alone(reason: str) -> None:
    breaker = Breaker(WATCHED)
    for _ in range(3):
        breaker.ailing(reason, 100.0)
    assert not breaker.claim(1e9)
    assert breaker.seconds_left(1e9) == 10.0
    breaker.checked()
    assert (breaker.state, breaker.clear, breaker.reason) == (EngineState.UP, True, "")


@pytest.mark.parametrize("reason", [RESET, BAD_STATUS, str(UpstreamFailure.MALFORMED)])
def test_good_health_check_of_an_engine_that_broke_requests_allows_one_trial(reason: str) -> None:
    breaker = opened(reason, WATCHED)
    assert not breaker.claim(101.0)
    breaker.checked()
    assert breaker.state is EngineState.OPEN
    assert breaker.claim(101.0)
    assert not breaker.claim(101.0)


def test_good_health_check_does_not_forget_broken_requests() -> None:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed(RESET, 1.0)
        breaker.checked()
    assert breaker.state is EngineState.OPEN
