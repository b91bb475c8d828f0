"""Which engine a request goes to: a caller's own order, bounded by weight, past open breakers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import EngineAddress, Upstream
from gateway.upstream.choice import pick, ranked


def engine(name: str, weight: int = 1, in_flight: int = 0) -> Upstream:
    one = Upstream(EngineAddress(path=f"/{name}"), name=name, weight=weight)
    one.in_flight = in_flight
    return one


def caller(number: int) -> bytes:
    return number.to_bytes(32)


def test_caller_has_one_order_and_keeps_it() -> None:
    engines = [engine("a"), engine("b"), engine("c")]
    for number in range(50):
        order = ranked(engines, caller(number))
        assert order == ranked(reversed(engines), caller(number))
        assert sorted(one.name for one in order) == ["a", "b", "c"]
    assert len({ranked(engines, caller(n)) for n in range(100)}) == 6


def test_weights_are_shares_of_the_callers() -> None:
    engines = [engine("a", 1), engine("b", 3)]
    firsts = Counter(ranked(engines, caller(n))[0].name for n in range(4000))
    # A binomial with 4000 draws: ten standard deviations and more.
    assert firsts["b"] / 4000 == pytest.approx(0.75, abs=0.07)


def test_engine_that_goes_moves_only_its_own_callers() -> None:
    three = [engine("a"), engine("b"), engine("c")]
    for number in range(200):
        before = ranked(three, caller(number))
        after = ranked(three[:2], caller(number))
        assert after == tuple(one for one in before if one.name != "c")


def test_idle_engines_are_chosen_by_the_callers_order() -> None:
    engines = [engine("a"), engine("b")]
    for number in range(20):
        order = ranked(engines, caller(number))
        assert pick(order, 0.0) is order[0]


def test_one_caller_alone_fills_engines_by_their_weights() -> None:
    order = ranked([engine("a", 1), engine("b", 3)], caller(1))
    for _ in range(400):
        chosen = pick(order, 0.0)
        assert chosen is not None
        chosen.in_flight += 1
    running = {one.name: one.in_flight for one in order}
    assert running["b"] >= 300 * 0.8
    assert running["a"] <= 100 * 1.25 + 1


def test_engine_whose_breaker_is_open_is_passed_over() -> None:
    engines = [engine("a"), engine("b")]
    engines[0].breaker.failed("timeout_connect", 0.0)
    for number in range(20):
        assert pick(ranked(engines, caller(number)), 0.1) is engines[1]


def test_nothing_is_chosen_when_every_breaker_is_open() -> None:
    engines = (engine("a"), engine("b"))
    for one in engines:
        one.breaker.failed("timeout_connect", 0.0)
    assert pick(engines, 0.1) is None
    assert pick((), 0.0) is None


def test_half_open_engine_is_chosen_for_one_request() -> None:
    engines = (engine("a"), engine("b"))
    engines[0].breaker.failed("timeout_connect", 0.0)
    later = 5.0
    assert pick(engines, later) is engines[0]
    assert [pick(engines, later) for _ in range(5)] == [engines[1]] * 5


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 10_000)), min_size=1, max_size=16))
def test_some_engine_is_always_below_its_bound(loads: list[tuple[int, int]]) -> None:
    engines = tuple(engine(f"e{n}", *load) for n, load in enumerate(loads))
    assert pick(engines, 0.0) in engines
