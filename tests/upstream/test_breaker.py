"""The breaker of one engine, with the time as a parameter."""

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
    Z,
    opened,
    trial_of,
)


def test_new_breaker_lets_everything_through() -> None:
    breaker = Breaker()
    assert breaker.clear
    assert breaker.claim(0.0)
    assert (breaker.state, breaker.reason, breaker.seconds_left(0.0)) == (EngineState.UP, "", 0.0)


def test_failures_in_a_row_open_it_and_an_answer_between_starts_again() -> None:
    breaker = Breaker(RULES)
    for _ in range(5):
        breaker.failed(RESET, 1.0)
        breaker.failed(RESET, 1.0)
        assert breaker.state is EngineState.UP
        assert not breaker.clear
        breaker.answered(200, 1.0)
        assert breaker.clear
    for _ in range(3):
        breaker.failed(REFUSED, 1.0)
    assert (breaker.state, breaker.reason) == (EngineState.OPEN, REFUSED)
    assert not breaker.claim(10.9)


def test_answer_takes_back_what_was_said_against_it_but_for_answers_that_broke_off() -> None:
    breaker = Breaker(WATCHED)
    breaker.broke(BROKEN_STREAM, 1.0, X)
    breaker.ailing(UNHEALTHY, 1.0)
    assert breaker.reason == UNHEALTHY
    breaker.answered(200, 1.0, Y)
    assert (breaker.reason, breaker.clear) == (BROKEN_STREAM, False)
    breaker.completed()
    assert (breaker.reason, breaker.clear) == ("", True)


def test_one_connect_timeout_opens_it_at_once() -> None:
    breaker = Breaker(RULES)
    breaker.failed(SILENT, 0.0)
    assert (breaker.state, breaker.reason) == (EngineState.OPEN, SILENT)


def test_one_request_tries_an_engine_after_the_cooldown() -> None:
    breaker = opened()
    assert not breaker.claim(109.9)
    assert breaker.seconds_left(105.0) == 5.0
    told = [str(breaker.state)]
    assert breaker.admits(110.0)
    told.append(str(breaker.state))
    assert breaker.claim(110.0)
    told.append(str(breaker.state))
    assert told == ["open", "open", "half_open"]
    assert not breaker.claim(110.0)
    assert not breaker.admits(119.9)
    assert breaker.seconds_left(112.0) == 8.0


def test_answer_to_the_trial_closes_it() -> None:
    breaker = opened()
    trial = trial_of(breaker, 110.0)
    breaker.answered(500, 111.0, trial=trial)
    assert (breaker.state, breaker.reason, breaker.clear) == (EngineState.UP, "", True)
    # It starts from nothing: two failures do not open it.
    breaker.failed(RESET, 112.0)
    breaker.failed(RESET, 112.0)
    assert breaker.state is EngineState.UP


def test_failure_of_the_trial_opens_it_for_another_cooldown() -> None:
    breaker = opened()
    trial = trial_of(breaker, 110.0)
    breaker.failed(REFUSED, 111.0, trial=trial)
    assert breaker.state is EngineState.OPEN
    assert not breaker.claim(120.9)
    assert breaker.claim(121.0)


def test_trial_whose_caller_left_is_given_to_the_next() -> None:
    breaker = opened()
    breaker.abandon(trial_of(breaker, 110.0), 110.0)
    assert breaker.claim(110.0)
    assert not breaker.claim(110.0)


def test_trial_that_takes_long_does_not_keep_the_engine_out_of_use() -> None:
    breaker = opened()
    assert breaker.claim(110.0)
    assert breaker.claim(120.0)
    assert not breaker.claim(120.0)


def test_failures_of_requests_from_before_do_not_keep_it_open() -> None:
    breaker = opened()
    for at in (101.0, 105.0, 109.0):
        breaker.failed(RESET, at)
    assert breaker.claim(110.0)


@pytest.mark.parametrize(
    ("status", "counts"),
    [(429, False), (500, False), (501, False), (502, True), (503, True), (504, True)],
)
def test_statuses_of_a_broken_engine_count_where_another_could_answer(
    status: int, counts: bool
) -> None:
    several = Breaker(BreakerRules(failures=1, by_status=True))
    alone = Breaker(BreakerRules(failures=1))
    for breaker in (several, alone):
        breaker.answered(status, 0.0)
    assert (several.state is EngineState.OPEN) is counts
    assert alone.state is EngineState.UP


def test_every_new_state_is_told_once() -> None:
    told: list[str] = []
    breaker = Breaker(RULES, told.append)
    for at in (1.0, 1.0, 1.0, 2.0):
        breaker.failed(RESET, at)
    trial = trial_of(breaker, 11.0)
    breaker.answered(200, 12.0, trial=trial)
    breaker.answered(200, 13.0, trial=trial)
    assert told == ["open", "half_open", "up"]


@pytest.mark.parametrize("reason", [RESET, BAD_STATUS, str(UpstreamFailure.TIMEOUT_FIRST_BYTE)])
def test_failures_of_one_callers_requests_open_nothing_for_others(reason: str) -> None:
    breaker = Breaker(RULES)
    for _ in range(100):
        breaker.failed(reason, 1.0, X)
    assert breaker.state is EngineState.UP
    assert breaker.claim(1.0, Y)
    assert breaker.avoided(10.9, X)
    assert not breaker.avoided(11.0, X)
    assert not breaker.avoided(1.0, Y)


def test_failures_of_two_callers_open_it() -> None:
    breaker = Breaker(RULES)
    for caller in (X, X, Y):
        breaker.failed(RESET, 1.0, caller)
    assert breaker.state is EngineState.OPEN


def test_what_no_request_can_cause_opens_it_whoever_asked() -> None:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed(REFUSED, 1.0, X)
    assert breaker.state is EngineState.OPEN


def test_bad_health_check_among_one_callers_failures_opens_it() -> None:
    for last in (0, 1, 2):
        breaker = Breaker(RULES)
        for nth in range(3):
            if nth == last:
                breaker.ailing(UNHEALTHY, 1.0)
            else:
                breaker.failed(RESET, 1.0, X)
        assert breaker.state is EngineState.OPEN


def test_answers_that_broke_off_are_no_worse_for_a_bad_health_check() -> None:
    breaker = Breaker(RULES)
    breaker.ailing(UNHEALTHY, 1.0)
    for caller in (X, Y):
        breaker.broke(BROKEN_STREAM, 1.0, caller)
    assert breaker.state is EngineState.UP


def test_answer_of_another_caller_forgives_slow_first_bytes() -> None:
    breaker = Breaker(RULES)
    for _ in range(5):
        for caller in (X, Y):
            breaker.failed(str(UpstreamFailure.TIMEOUT_FIRST_BYTE), 1.0, caller)
        breaker.answered(200, 1.0, Z)
    assert breaker.state is EngineState.UP
    assert breaker.clear


def test_beginning_of_an_answer_does_not_forgive_answers_that_broke_off() -> None:
    breaker = Breaker(RULES)
    for caller in (X, Y, Z):
        breaker.answered(200, 1.0, caller)
        breaker.broke(str(UpstreamFailure.INCOMPLETE), 1.0, caller)
    assert breaker.state is EngineState.OPEN


def test_whole_answer_forgives_answers_that_broke_off() -> None:
    breaker = Breaker(RULES)
    for _ in range(5):
        for caller in (X, Y):
            breaker.broke(BROKEN_STREAM, 1.0, caller)
        assert not breaker.clear
        breaker.completed()
        assert breaker.clear
    assert breaker.state is EngineState.UP


def test_engine_left_for_broken_answers_comes_back_by_a_whole_one_alone() -> None:
    breaker = Breaker(RULES)
    for caller in (X, Y, Z):
        breaker.broke(BROKEN_STREAM, 100.0, caller)
    trial = trial_of(breaker, 110.0)
    breaker.answered(200, 111.0, trial=trial)
    assert breaker.state is EngineState.HALF_OPEN
    breaker.completed(trial)
    assert (breaker.state, breaker.clear) == (EngineState.UP, True)


def test_good_health_check_does_not_forget_answers_that_broke_off() -> None:
    breaker = Breaker(WATCHED)
    for caller in (X, Y):
        breaker.broke(BROKEN_STREAM, 1.0, caller)
    breaker.failed(SILENT, 1.0)
    breaker.checked()
    assert (breaker.state, breaker.clear) == (EngineState.UP, False)
    breaker.broke(BROKEN_STREAM, 2.0, X)
    assert breaker.state is EngineState.OPEN


def test_engine_that_is_gone_after_it_was_left_waits_for_its_health() -> None:
    breaker = opened(RESET, WATCHED)
    breaker.failed(REFUSED, 101.0)
    assert not breaker.claim(1e9)
    breaker.checked()
    assert breaker.state is EngineState.UP
