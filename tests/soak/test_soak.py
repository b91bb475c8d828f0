"""The soak itself works, and its verdict is not always yes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import Plan, Soaked, soak
from tests.soak.sampling import Record, Sample


@pytest.mark.slow
def test_short_soak_meets_every_kind_of_caller_and_nothing_fails(tmp_path: Path) -> None:
    # Memory of a process that has only begun is not flat; whether it is takes minutes to see.
    plan = Plan(seconds=15, rate=15, every=1, keys_every=4, engine_every=5)
    soaked = soak(tmp_path, plan, growth=False)
    assert soaked.failures == []
    assert soaked.totals["admitted"] == soaked.totals["receipts"] > 50
    assert {"plain/200", "stream/200", "renewed/key"} <= set(soaked.seen)
    assert {name.partition("/")[0] for name in soaked.seen} >= {
        "broken", "leaves", "log", "receipt", "refused", "slow",
    }  # fmt: skip
    document = soaked.to_json()
    assert {one["role"] for one in document["growth"]} == {"supervisor", "notary", "workers"}


def samples(*, rss: list[int], receipts: int = 0) -> list[Sample]:
    steps = range(len(rss))
    return [
        Sample(
            seconds=step,
            receipts=receipts * step,
            rss=rss[step],
            pss=1,
            anonymous=1,
            descriptors=30,
            threads=3,
        )
        for step in steps
    ]


def grown(role: str, taken: list[Sample]) -> list[str]:
    return [g.figure for g in Record({role: taken}).growths() if not g.flat]


def test_memory_that_rises_to_the_end_is_seen() -> None:
    assert grown("workers", samples(rss=[step << 20 for step in range(90, 135)])) == ["rss"]


def test_memory_that_rises_at_the_start_only_is_flat() -> None:
    rises = [step << 20 for step in range(50, 65)]
    assert grown("workers", samples(rss=rises + [65 << 20] * 30)) == []


def test_notary_may_hold_a_little_for_each_receipt_and_a_worker_may_not() -> None:
    rises = [(90 << 20) + step * 500_000 for step in range(45)]
    taken = samples(rss=rises, receipts=10_000)
    assert grown("notary", taken) == []
    assert grown("workers", taken) == ["rss"]


def test_descriptors_that_are_not_given_back_are_seen() -> None:
    taken = samples(rss=[1] * 30)
    leaks = [
        Sample(**{name: getattr(s, name) for name in s.__slots__} | {"descriptors": 30 + step})
        for step, s in enumerate(taken)
    ]
    assert grown("workers", leaks) == ["descriptors"]


def test_run_with_too_few_samples_is_not_judged() -> None:
    with pytest.raises(ValueError, match="three or more"):
        Record({"notary": samples(rss=[1, 1])}).growths()


@pytest.mark.parametrize(
    ("totals", "seen", "said"),
    [
        ({"receipts": 9}, {}, "not as many"),
        ({"in_flight": 1}, {}, "in_flight: 1"),
        ({"internal_errors": 2}, {}, "internal_errors: 2"),
        ({}, {"plain/500": 3}, "3 x plain/500"),
        ({}, {"slow/hangs": 1}, "1 x slow/hangs"),
    ],
)
def test_what_is_wrong_is_said(totals: dict[str, int], seen: dict[str, int], said: str) -> None:
    good = {
        "admitted": 10,
        "receipts": 10,
        "in_flight": 0,
        "connections_open": 0,
        "internal_errors": 0,
    }
    soaked = Soaked(plan=Plan(seconds=1), totals=good | totals)
    soaked.seen.update(seen)
    soaked.judge(growth=False)
    assert len(soaked.failures) == 1
    assert said in soaked.failures[0]
