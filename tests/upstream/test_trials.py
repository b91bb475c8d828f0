"""Trials of an engine that was left: whose they are, and what ends them."""

from __future__ import annotations

import pytest

from gateway.upstream.breaker import Breaker, BreakerRules, EngineState
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


@pytest.mark.parametrize("after", [X, Y])
def test_trial_that_is_left_once_is_free_for_everybody(after: bytes) -> None:
    breaker = opened()
    breaker.abandon(trial_of(breaker, 110.0, X), 110.0, X)
    assert breaker.claim(110.0, after)


def test_caller_that_leaves_two_trials_in_a_row_gets_none_for_a_cooldown_and_others_do() -> None:
    breaker = opened()
    for _ in range(2):
        breaker.abandon(trial_of(breaker, 110.0, X), 110.0, X)
    assert not breaker.claim(110.0, X)
    assert not breaker.claim(119.9, X)
    assert breaker.claim(110.0, Y)


def test_caller_that_goes_on_leaving_trials_is_kept_from_them_each_time() -> None:
    breaker = opened()
    for at in (110.0, 110.0, 120.0, 130.0):
        breaker.abandon(trial_of(breaker, at, X), at, X)
    assert not breaker.claim(139.9, X)
    assert breaker.claim(140.0, X)


def test_two_callers_that_leave_trials_in_turns_are_both_kept_from_them() -> None:
    breaker = opened()
    for caller in (X, Y, X, Y):
        breaker.abandon(trial_of(breaker, 110.0, caller), 110.0, caller)
    assert not breaker.claim(110.0, X)
    assert not breaker.claim(110.0, Y)
    assert breaker.claim(110.0, Z)


def test_caller_that_left_one_trial_and_lost_another_has_not_left_two_in_a_row() -> None:
    breaker = opened()
    breaker.abandon(trial_of(breaker, 110.0, X), 110.0, X)
    breaker.failed(RESET, 110.0, X, trial_of(breaker, 110.0, X))
    breaker.abandon(trial_of(breaker, 130.0, X), 130.0, X)
    assert breaker.claim(130.0, X)


def test_trials_that_were_left_are_forgotten_when_the_engine_is_up_again() -> None:
    breaker = opened()
    for _ in range(2):
        breaker.abandon(trial_of(breaker, 110.0, X), 110.0, X)
    breaker.answered(200, 111.0, Y, trial_of(breaker, 110.0, Y))
    for _ in range(3):
        breaker.failed(RESET, 111.0)
    breaker.abandon(trial_of(breaker, 121.0, X), 121.0, X)
    assert breaker.claim(121.0, X)


def test_leaving_a_trial_that_ran_out_does_not_end_the_one_that_runs() -> None:
    breaker = opened()
    late = trial_of(breaker, 110.0, X)
    trial_of(breaker, 120.0, Y)
    breaker.abandon(late, 121.0, X)
    assert not breaker.claim(121.0, Z)


def test_caller_cannot_hold_trials_by_leaving_only_those_that_ran_out() -> None:
    breaker = opened()
    first, second = trial_of(breaker, 110.0, X), trial_of(breaker, 120.0, X)
    third = trial_of(breaker, 130.0, X)
    breaker.abandon(first, 130.0, X)
    breaker.abandon(second, 139.0, X)
    assert third == breaker.trial
    assert not breaker.claim(140.0, X)
    assert breaker.claim(140.0, Y)


# -- requests from before, which are no trials ---------------------------------------------------


def test_failure_of_a_request_from_before_does_not_end_another_callers_trial() -> None:
    breaker = opened()
    trial = trial_of(breaker, 110.0, Y)
    for fail in (breaker.failed, breaker.broke):
        fail(RESET, 111.0, X)
    assert breaker.state is EngineState.HALF_OPEN
    assert not breaker.claim(111.0, Z)
    breaker.answered(200, 112.0, Y, trial)
    assert (breaker.state, breaker.clear) == (EngineState.UP, True)


def test_failure_of_a_request_from_before_keeps_its_caller_from_no_trial() -> None:
    breaker = opened()
    trial = trial_of(breaker, 110.0, Y)
    breaker.failed(RESET, 111.0, X)
    breaker.abandon(trial, 111.0, Y)
    assert breaker.claim(111.0, X)


@pytest.mark.parametrize("rules", [RULES, WATCHED])
@pytest.mark.parametrize("reason", [REFUSED, SILENT])
def test_connection_that_a_request_from_before_did_not_get_does_not_end_a_trial(
    reason: str, rules: BreakerRules
) -> None:
    breaker = opened(RESET, rules)
    trial_of(breaker, 110.0, Y)
    breaker.failed(reason, 111.0, X)
    assert (breaker.state, breaker.reason) == (EngineState.HALF_OPEN, RESET)


def test_request_from_before_that_is_left_does_not_give_another_callers_trial_back() -> None:
    breaker = opened()
    trial_of(breaker, 110.0, Y)
    breaker.abandon(0, 111.0, X)
    assert not breaker.claim(111.0, Z)


def test_request_of_an_earlier_trial_says_nothing_once_the_engine_was_left_again() -> None:
    breaker = opened()
    early, failing = trial_of(breaker, 110.0, X), trial_of(breaker, 120.0, Y)
    breaker.failed(RESET, 121.0, Y, failing)
    trial_of(breaker, 131.0, Z)
    breaker.abandon(early, 131.0, X)
    assert not breaker.claim(131.0, Y)
    breaker.failed(RESET, 132.0, X, early)
    assert breaker.state is EngineState.HALF_OPEN
    breaker.completed(early)
    assert breaker.state is EngineState.HALF_OPEN


def test_trial_that_ran_out_still_opens_and_closes_when_it_ends() -> None:
    for status, state in ((200, EngineState.UP), (503, EngineState.OPEN)):
        breaker = Breaker(BreakerRules(failures=1, cooldown=10.0, by_status=True))
        breaker.failed(RESET, 100.0)
        late = trial_of(breaker, 110.0)
        trial_of(breaker, 120.0)
        breaker.answered(status, 121.0, trial=late)
        assert breaker.state is state


@pytest.mark.parametrize("at", [101.0, 111.0])
def test_answer_to_a_request_from_before_does_not_close_it(at: float) -> None:
    breaker = opened()
    if at > 110.0:
        trial_of(breaker, 110.0, Y)
    before = breaker.state
    breaker.answered(200, at, X)
    breaker.completed()
    assert (breaker.state, breaker.clear, breaker.reason) == (before, False, RESET)


def test_numbers_of_trials_are_never_given_twice() -> None:
    breaker = opened()
    assert breaker.trial == 0
    numbers = []
    for at in (110.0, 130.0, 150.0):
        numbers.append(trial_of(breaker, at))
        breaker.failed(RESET, at, trial=breaker.trial)
        assert breaker.trial == 0
    assert len(set(numbers)) == 3
    assert 0 not in numbers


def test_caller_whose_trial_failed_leaves_the_next_one_to_another() -> None:
    breaker = opened()
    breaker.failed(RESET, 110.0, X, trial_of(breaker, 110.0, X))
    assert not breaker.claim(120.0, X)
    assert breaker.claim(120.0, Y)


def test_only_caller_may_try_again_a_cooldown_later() -> None:
    breaker = opened()
    breaker.failed(RESET, 110.0, X, trial_of(breaker, 110.0, X))
    assert breaker.claim(130.0, X)
