"""Instants for people: in the calendar as RFC 3339, outside of it as the bare number."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.instants import instant, is_instant

LAST = 253_402_300_799


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (LAST, "9999-12-31T23:59:59Z")],
)
def test_first_and_last_instant_are_written_in_the_calendar(seconds: int, text: str) -> None:
    assert is_instant(seconds)
    assert instant(seconds) == text


@pytest.mark.parametrize("seconds", [-1, LAST + 1, 10**30, -(10**30)])
def test_number_outside_the_calendar_is_written_as_it_is(seconds: int) -> None:
    assert not is_instant(seconds)
    assert instant(seconds) == f"{seconds} s"


@given(st.integers(0, LAST))
def test_instant_reads_back_as_the_same_second(seconds: int) -> None:
    assert int(dt.datetime.fromisoformat(instant(seconds)).timestamp()) == seconds
