"""The receipt ids of a boot: what was taken stays taken, what was not is free."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from gateway.notary.taken import TakenIds
from tests.support.notaries import new_jti

IDS = st.binary(min_size=16, max_size=16).map(bytes.hex)


def test_id_is_taken_once() -> None:
    ids, jti = TakenIds(), new_jti()
    assert jti not in ids
    assert ids.take(jti)
    assert jti in ids
    assert not ids.take(jti)


@given(st.sets(IDS, max_size=200), st.sets(IDS, max_size=50))
def test_taken_ids_are_known_and_no_others(taken: set[str], others: set[str]) -> None:
    ids = TakenIds()
    for jti in taken:
        assert ids.take(jti)
    for jti in taken:
        assert jti in ids
        assert not ids.take(jti)
    for jti in others - taken:
        assert jti not in ids


def test_ids_that_look_alike_are_told_apart() -> None:
    ids = TakenIds()
    alike = [f"{number:032x}" for number in range(20_000)]
    assert all(ids.take(jti) for jti in alike)
    assert not any(ids.take(jti) for jti in alike)
    sizes = sorted(len(bucket) for bucket in ids._buckets)
    assert sizes[-1] <= 12 * 6  # they are spread however they were chosen


def test_two_boots_place_one_id_differently() -> None:
    one, other = TakenIds(), TakenIds()
    jti = new_jti()
    one.take(jti)
    other.take(jti)
    assert [bytes(b) for b in one._buckets] != [bytes(b) for b in other._buckets]


def test_memory_of_many_ids_is_a_few_bytes_each() -> None:
    ids = TakenIds()
    empty = sum(map(sys.getsizeof, ids._buckets))
    count = 300_000
    for number in range(count):
        ids.take(f"{number:032x}")
    assert sum(map(len, ids._buckets)) == 6 * count
    assert sum(map(sys.getsizeof, ids._buckets)) - empty < 14 * count
