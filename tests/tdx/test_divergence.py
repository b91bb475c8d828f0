"""Where a log and a register, or two logs, part: what is found, and what is not claimed."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.tdx.divergence import (
    MAX_GUESSED,
    Cause,
    Change,
    Difference,
    Mismatch,
    find_mismatch,
    first_difference,
    guess_mismatch,
)
from attestation.tdx.events import Event, EventLog, extend, replay, trace
from attestation.tdx.logfile import parse_log_file
from attestation.tdx.quote import parse_quote
from tests import vectors_path


def events(text: str) -> list[Event]:
    """One event of RTMR0 for each letter; a dot is one that states no digest."""
    return [
        Event(
            register=0,
            digest=b"" if letter == "." else hashlib.sha384(letter.encode()).digest(),
            type=4,
            name=letter,
            data=b"",
            content=None,
        )
        for letter in text
    ]


def register(text: str) -> bytes:
    value = bytes(48)
    for event in events(text):
        value = extend(value, event.digest)
    return value


@pytest.mark.parametrize("text", ["", "a", "abc", "aaa"])
def test_log_that_replays_has_no_mismatch(text: str) -> None:
    assert find_mismatch(events(text), register(text)) is None
    assert guess_mismatch(events(text), register(text)) is None


@pytest.mark.parametrize(
    ("log", "value", "cause", "at"),
    [
        ("abc", "ab", Cause.EARLIER, 2),
        ("abc", "a", Cause.EARLIER, 1),
        ("abc", "", Cause.EARLIER, 0),
        ("", "a", Cause.UNKNOWN, 0),
        ("abc", "abx", Cause.UNKNOWN, 0),
        ("ab", "abc", Cause.UNKNOWN, 0),
        ("a.c", "abc", Cause.UNSTATED, 2),
        (".", "", Cause.UNSTATED, 1),
    ],
)
def test_mismatch_with_its_cause(log: str, value: str, cause: Cause, at: int) -> None:
    expected = Mismatch(cause=cause, events=len(log), at=at)
    assert find_mismatch(events(log), register(value)) == expected
    assert guess_mismatch(events(log), register(value)) == expected


@pytest.mark.parametrize(
    ("log", "value", "cause", "at"),
    [
        ("axbc", "abc", Cause.OMITTED, 2),
        ("xabc", "abc", Cause.OMITTED, 1),
        ("abc", "aabc", Cause.REPEATED, 1),
        ("abc", "abcc", Cause.REPEATED, 3),
        ("abc", "bac", Cause.SWAPPED, 1),
        ("abc", "acb", Cause.SWAPPED, 2),
    ],
)
def test_one_wrong_event_is_found_by_guessing(log: str, value: str, cause: Cause, at: int) -> None:
    assert find_mismatch(events(log), register(value)) == Mismatch(
        cause=Cause.UNKNOWN, events=len(log)
    )
    assert guess_mismatch(events(log), register(value)) == Mismatch(
        cause=cause, events=len(log), at=at
    )


@pytest.mark.parametrize(("log", "value"), [("abcd", "dcba"), ("abc", "axc"), ("abc", "abcd")])
def test_more_than_one_wrong_event_is_not_guessed(log: str, value: str) -> None:
    assert guess_mismatch(events(log), register(value)) == Mismatch(
        cause=Cause.UNKNOWN, events=len(log)
    )


def test_guessing_is_bounded() -> None:
    longest = events("x" + "a" * (MAX_GUESSED - 1))
    value = register("a" * (MAX_GUESSED - 1))
    found = guess_mismatch(longest, value)
    assert found == Mismatch(cause=Cause.OMITTED, events=MAX_GUESSED, at=1)
    longer = guess_mismatch([*longest, *events("a")], register("a" * MAX_GUESSED))
    assert longer == Mismatch(cause=Cause.UNKNOWN, events=MAX_GUESSED + 1)


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_cause_holds_whatever_the_log_and_the_value(log: str, value: str) -> None:
    found = guess_mismatch(events(log), register(value))
    if found is None:
        assert log == value
        return
    assert log != value
    at = found.at
    explained = {
        Cause.EARLIER: log[:at],
        Cause.OMITTED: log[: at - 1] + log[at:],
        Cause.REPEATED: log[:at] + log[at - 1 :],
        Cause.SWAPPED: log[: at - 1] + log[at : at + 1] + log[at - 1 : at] + log[at + 1 :],
    }
    assert explained.get(found.cause, value) == value


@pytest.mark.parametrize(
    ("expected", "seen", "change", "place"),
    [
        ("abc", "ab", Change.MISSING, 3),
        ("abc", "bc", Change.MISSING, 1),
        ("abc", "", Change.MISSING, 1),
        ("ab", "abc", Change.EXTRA, 3),
        ("abc", "axbc", Change.EXTRA, 2),
        ("", "a", Change.EXTRA, 1),
        ("aab", "aaab", Change.EXTRA, 3),
        ("abc", "axc", Change.CHANGED, 2),
        ("abc", "xyz", Change.CHANGED, 1),
        ("abc", "acb", Change.REORDERED, 2),
        ("abc", "cab", Change.REORDERED, 1),
    ],
)
def test_first_difference_of_two_lists(
    expected: str, seen: str, change: Change, place: int
) -> None:
    at = place - 1
    assert first_difference(expected, seen, str) == Difference(
        change=change,
        place=place,
        expected=expected[at] if at < len(expected) else None,
        seen=seen[at] if at < len(seen) else None,
    )


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_lists_are_equal_or_differ_at_the_place_that_is_named(expected: str, seen: str) -> None:
    found = first_difference(expected, seen, str)
    assert (found is None) == (expected == seen)
    if found is not None:
        at = found.place - 1
        assert expected[:at] == seen[:at]
        assert expected[at : at + 1] != seen[at : at + 1]
        gone = {Change.MISSING, Change.CHANGED}
        assert (found.change in gone) == (
            found.expected is not None
            and expected[at:].count(found.expected) > seen[at:].count(found.expected)
        )


def test_items_are_compared_by_the_key_alone() -> None:
    assert first_difference("abc", "ABC", str.lower) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab.")), max_size=8))
def test_trace_ends_at_the_replay(steps: list[tuple[int, str]]) -> None:
    log = EventLog(
        format="dstack",
        events=tuple(
            Event(register=at, digest=event.digest, type=4, name="", data=b"", content=None)
            for at, letter in steps
            for event in events(letter)
        ),
    )
    values = list(trace(log))
    assert len(values) == len(steps)
    for at in range(4):
        own = [
            value for value, event in zip(values, log.events, strict=True) if event.register == at
        ]
        assert (own or [bytes(48)])[-1] == replay(log)[at]
        assert len(own) == len(log.of(at))


def test_real_mismatch_is_one_of_digests_that_the_log_does_not_state() -> None:
    folder = vectors_path.need("tdx") / "Dstack-TEE-dstack"
    log = parse_log_file((folder / "eventlog-1d0342e3.json").read_bytes())
    quote = parse_quote((folder / "quote-1d0342e3.bin").read_bytes())
    found = [guess_mismatch(log.of(at), quote.body.rtmrs[at]) for at in range(4)]
    assert found == [None, None, None, Mismatch(cause=Cause.UNSTATED, events=9, at=1)]
