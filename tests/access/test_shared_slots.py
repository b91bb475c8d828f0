"""Slots that several workers count together."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.principal import Grant, Principal, subject_of
from gateway.access.shared_slots import SharedSlots, clear_column, create_slots

WORKERS = 3


def principal(name: str, concurrency: int) -> Principal:
    return Principal(
        sub=subject_of(name.encode()), grant=Grant(concurrency=concurrency), label=name
    )


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_slots(WORKERS)
    yield descriptor
    os.close(descriptor)


def test_grant_counts_over_all_workers(memory: int) -> None:
    one, two, three = (SharedSlots(memory, index, WORKERS) for index in range(WORKERS))
    alice, bob = principal("alice", 2), principal("bob", 1)
    assert one.acquire(alice)
    assert two.acquire(alice)
    assert not three.acquire(alice)
    assert three.acquire(bob)
    assert [each.running(alice.sub) for each in (one, two, three)] == [2, 2, 2]
    two.release(alice)
    assert three.acquire(alice)


def test_slot_that_nobody_holds_cannot_be_released(memory: int) -> None:
    one, two = SharedSlots(memory, 0, WORKERS), SharedSlots(memory, 1, WORKERS)
    alice = principal("alice", 2)
    assert one.acquire(alice)
    # What another worker holds is not this one's to give back.
    with pytest.raises(ValueError, match="nobody holds"):
        two.release(alice)


def test_slots_of_a_worker_that_is_gone_come_back_and_no_others(memory: int) -> None:
    one, two = SharedSlots(memory, 0, WORKERS), SharedSlots(memory, 1, WORKERS)
    alice = principal("alice", 10)
    for slots in (one, one, two):
        assert slots.acquire(alice)
    clear_column(memory, 0, WORKERS)
    assert two.running(alice.sub) == 1
    assert SharedSlots(memory, 0, WORKERS).running(alice.sub) == 1


def test_bucket_is_not_to_be_found_out_from_names_alone() -> None:
    subs = [subject_of(b"%d" % at) for at in range(100)]
    seen = set()
    for _ in range(2):
        descriptor = create_slots(WORKERS)
        try:
            one, two = (SharedSlots(descriptor, index, WORKERS) for index in (0, 1))
            assert [one._bucket(sub) for sub in subs] == [two._bucket(sub) for sub in subs]
            seen.add(tuple(one._bucket(sub) for sub in subs))
        finally:
            os.close(descriptor)
    assert len(seen) == 2


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, WORKERS - 1), st.booleans()), max_size=60))
def test_never_more_run_than_the_grant_allows(steps: list[tuple[int, bool]]) -> None:
    descriptor = create_slots(WORKERS)
    try:
        workers = [SharedSlots(descriptor, index, WORKERS) for index in range(WORKERS)]
        alice, held = principal("alice", 4), [0] * WORKERS
        for index, more in steps:
            if more:
                assert workers[index].acquire(alice) is (sum(held) < 4)
                held[index] += sum(held) < 4
            elif held[index]:
                workers[index].release(alice)
                held[index] -= 1
            assert workers[0].running(alice.sub) == sum(held)
    finally:
        os.close(descriptor)
