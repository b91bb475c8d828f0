"""Who may be connected, and who gives way."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.crowd import (
    TOO_MANY,
    TOO_MANY_OF_ADDRESS,
    Crowd,
    fitting_connections,
)


@dataclass(eq=False)
class Caller:
    """A connection that only says what it is."""

    peer: str | None = "192.0.2.1"
    is_waiting: bool = True
    gave_way: bool = False

    def give_way(self) -> None:
        self.gave_way = True


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Hall:
    """A crowd of three at most."""

    per_address: int | None = None
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.crowd = Crowd(connections=3, per_address=self.per_address, clock=self.clock)

    def enter(self, *callers: Caller) -> list[str | None]:
        return [self.crowd.enter(caller) for caller in callers]


def test_newcomer_takes_the_place_of_the_oldest_that_waits() -> None:
    hall, callers = Hall(), [Caller(is_waiting=False), Caller(), Caller(), Caller()]
    assert hall.enter(*callers) == [None] * 4
    assert [caller.gave_way for caller in callers] == [False, True, False, False]
    assert len(hall.crowd) == 3


def test_newcomer_is_refused_while_everybody_has_a_request() -> None:
    hall = Hall()
    hall.enter(*(Caller(is_waiting=False) for _ in range(3)))
    assert hall.enter(Caller()) == [TOO_MANY]
    assert len(hall.crowd) == 3


def test_full_crowd_is_not_looked_through_for_every_newcomer() -> None:
    hall, callers = Hall(), [Caller(is_waiting=False) for _ in range(3)]
    hall.enter(*callers)
    assert hall.enter(Caller()) == [TOO_MANY]
    callers[0].is_waiting = True
    assert hall.enter(Caller()) == [TOO_MANY]
    hall.clock.now += 0.2
    assert hall.enter(Caller()) == [None]
    assert callers[0].gave_way


def test_one_that_got_a_request_after_it_was_looked_at_stays() -> None:
    hall, callers = Hall(), [Caller(), Caller(), Caller()]
    hall.enter(*callers)
    hall.enter(Caller())
    callers[1].is_waiting = False
    hall.enter(Caller())
    assert [caller.gave_way for caller in callers] == [True, False, True]


def test_single_address_is_bounded_and_others_are_not_affected() -> None:
    hall = Hall(per_address=2)
    mine = [Caller("a"), Caller("a")]
    assert hall.enter(*mine, Caller("a"), Caller("b")) == [None, None, TOO_MANY_OF_ADDRESS, None]
    hall.crowd.leave(mine[0])
    assert hall.enter(Caller("a")) == [None]
    assert not any(caller.gave_way for caller in mine)


def test_socket_without_addresses_has_no_bound_for_one() -> None:
    assert Hall(per_address=1).enter(Caller(None), Caller(None)) == [None, None]


def test_one_that_was_never_taken_in_may_leave() -> None:
    hall, refused = Hall(per_address=1), Caller("a")
    hall.enter(Caller("a"), refused)
    hall.crowd.leave(refused)
    assert len(hall.crowd) == 1
    assert hall.enter(Caller("a")) == [TOO_MANY_OF_ADDRESS]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9)), max_size=60))
def test_bounds_hold_and_nobody_with_a_request_gives_way(
    steps: list[tuple[str, bool, int]],
) -> None:
    clock = Clock()
    crowd = Crowd(connections=5, per_address=2, clock=clock)
    inside: list[Caller] = []
    for peer, waits, leaves in steps:
        clock.now += 0.2
        caller = Caller(peer, is_waiting=waits)
        if crowd.enter(caller) is None:
            inside.append(caller)
        assert not any(other.gave_way for other in inside if not other.is_waiting)
        inside = [other for other in inside if not other.gave_way]
        if leaves < len(inside):
            crowd.leave(inside.pop(leaves))
        assert len(crowd) == len(inside) <= 5
        assert all(sum(other.peer == one for other in inside) <= 2 for one in "abc")


@pytest.mark.parametrize(
    ("wanted", "descriptors", "fits"),
    [(100, 1 << 20, 100), (100, 264, 100), (100, 263, 99), (16384, 1024, 480), (10, 0, 1)],
)
def test_connections_fit_the_open_files_a_process_may_have(
    wanted: int, descriptors: int, fits: int
) -> None:
    assert fitting_connections(wanted, descriptors) == fits
