"""What one process takes on: requests and bytes, and how much of it a single key gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.limits import EdgeLimits
from gateway.edge.overload import Load

ALICE, BOB = b"alice", b"bob"


def load(size: int = 1000) -> Load:
    return Load(EdgeLimits(buffered_bytes=size))


def fill(held: Load, key: bytes, each: int = 1) -> int:
    """Hold as much as a key may in requests of so many bytes."""
    taken = 0
    while held.hold(each, key, 0):
        taken += each
    return taken


def test_requests_of_one_key_leave_room_for_those_of_others() -> None:
    held = load()
    assert fill(held, ALICE) == 800
    assert held.hold(150, BOB, 0)
    assert not held.hold(1, ALICE, 0)


def test_two_keys_that_take_all_they_may_leave_something_to_a_third() -> None:
    held = load()
    fill(held, ALICE)
    fill(held, BOB)
    assert held.hold(10, b"carol", 0)


def test_only_request_of_a_key_may_take_all_there_is() -> None:
    held = load()
    assert held.hold(600, ALICE, 0)
    assert held.hold(400, ALICE, 600)
    assert not held.hold(1, ALICE, 1000)


def test_what_is_let_go_is_there_for_all() -> None:
    held = load()
    taken = fill(held, ALICE)
    held.let_go(taken, ALICE)
    assert held.held_bytes == 0
    assert held.hold(1000, BOB, 0)


@given(st.lists(st.tuples(st.sampled_from((ALICE, BOB)), st.integers(0, 400))))
def test_bytes_of_all_keys_are_what_is_held_and_never_too_many(
    steps: list[tuple[bytes, int]],
) -> None:
    held, running = load(), list[tuple[bytes, int]]()
    for key, count in steps:
        if held.hold(count, key, 0):
            running.append((key, count))
        elif running:
            gone, size = running.pop(0)
            held.let_go(size, gone)
        assert held.held_bytes == sum(size for _, size in running) <= 1000
    for key, count in running:
        held.let_go(count, key)
    assert held.held_bytes == 0
    assert not held._of_key
