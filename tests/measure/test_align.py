"""Two lists of digests side by side, for any digests that somebody makes up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.measure.align import align
from attestation.measure.compare import MAX_COMPARED, Match, compare_log
from attestation.measure.document import MAX_REGISTER_EVENTS
from attestation.measure.hostpart import LoggedEvent
from attestation.measure.prediction import (
    EV_IPL,
    EV_SEPARATOR,
    Platform,
    PredictedEvent,
    PredictedRegister,
    Prediction,
    digested,
    unknown,
)

FEW = st.lists(st.sampled_from([b"", b"a", b"b", b"c", b"d"]), max_size=12)


def longest(wanted: Sequence[bytes], seen: Sequence[bytes]) -> int:
    """Length of a longest common subsequence, by the table of the textbook."""
    row = [0] * (len(seen) + 1)
    for one in wanted:
        above = row
        row = [0]
        for at, other in enumerate(seen, 1):
            same = above[at - 1] + 1 if one and one == other else 0
            row.append(max(same, above[at], row[at - 1]))
    return row[-1]


@given(wanted=FEW, seen=FEW)
def test_no_alignment_has_more_in_common(wanted: list[bytes], seen: list[bytes]) -> None:
    found = align(wanted, seen)
    assert len(found) == longest(wanted, seen)
    assert all(wanted[here] == seen[there] != b"" for here, there in found)
    for (here, there), (after, later) in pairwise(found):
        assert here < after
        assert there < later


@pytest.mark.parametrize(
    ("wanted", "seen", "expected"),
    [
        ("a", "aa", [(0, 0)]),
        ("aa", "a", [(0, 0)]),
        ("asb", "sasb", [(0, 1), (1, 2), (2, 3)]),
        ("asbs", "abss", [(0, 0), (2, 1), (3, 2)]),
        ("abc", "acb", [(0, 0), (2, 1)]),
        ("", "a", []),
        ("a", "", []),
    ],
)
def test_first_of_equal_places_is_taken(
    wanted: str, seen: str, expected: list[tuple[int, int]]
) -> None:
    assert list(align(*([one.encode() for one in text] for text in (wanted, seen)))) == expected


def register(events: Sequence[PredictedEvent]) -> Prediction:
    return Prediction(
        platform=Platform.TPM,
        inputs=(),
        settings={},
        mrtd={},
        registers=(PredictedRegister(name="pcr4", events=tuple(events)),),
    )


EVENT = st.tuples(st.sampled_from([EV_IPL, EV_SEPARATOR]), st.integers(0, 4))
MANY = 400


@settings(max_examples=40, deadline=None)
@given(
    wanted=st.lists(EVENT, max_size=MANY),
    seen=st.lists(EVENT, max_size=MANY),
)
def test_every_event_of_either_side_is_told_once_and_in_order(
    wanted: list[tuple[int, int]], seen: list[tuple[int, int]]
) -> None:
    predicted = [
        digested(kind, "x", bytes([n]) * 48, "s") if n else unknown(kind, "x", "s")
        for kind, n in wanted
    ]
    logged = [LoggedEvent(type=kind, digest=bytes([n]) * 48, data=b"") for kind, n in seen]
    (found,) = compare_log(register(predicted), {"pcr4": logged})
    in_log = [one for one in found.events if one.seen is not None]
    assert [one.seen for one in in_log] == logged
    assert [one.place for one in in_log] == list(range(1, len(logged) + 1))
    told = [id(one.predicted) for one in found.events if one.predicted is not None]
    # An unknown event stands for one logged event or more.
    assert list(dict.fromkeys(told)) == [id(one) for one in predicted]
    missing = [one for one in found.events if one.match is Match.MISSING]
    assert all(predicted[one.place - 1] is one.predicted for one in missing)


class Counted(bytes):
    """A digest that counts how often it is looked up."""

    lookups = 0

    def __hash__(self) -> int:
        Counted.lookups += 1
        return super().__hash__()

    __eq__ = bytes.__eq__


def test_made_up_digests_are_looked_up_a_few_times_each() -> None:
    def digests(count: int, own: int) -> list[bytes]:
        # Every second one is the same on both sides, the others are on one side only.
        return [
            Counted((own + at % 256 * 2).to_bytes(2) * 24) if at % 2 else Counted(bytes(48))
            for at in range(count)
        ]

    assert MAX_COMPARED == MAX_REGISTER_EVENTS == 512
    predicted = [digested(EV_IPL, "x", one, "s") for one in digests(MAX_REGISTER_EVENTS, 1)]
    seen = digests(MAX_COMPARED, 2)
    logged = [LoggedEvent(type=EV_IPL, digest=one, data=b"") for one in seen]
    Counted.lookups = 0
    (found,) = compare_log(register(predicted), {"pcr4": logged})
    assert found.count(Match.SAME) == 256
    assert Counted.lookups <= 4 * (len(predicted) + len(logged))
