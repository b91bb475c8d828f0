"""Quotas: buckets that refill steadily, budgets that do not, one state for all workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.receipt.claims import Attempt, End
from attestation.receipt.claims import Usage as Reported
from attestation.receipt.outcome import Body, LineageContext, Outcome
from gateway.access.principal import Grant, Period, Principal, Quota, subject_of
from gateway.access.quota_table import FOREVER, QuotaTable, Usage, create_quota_table
from gateway.access.quotas import MINUTE, SECOND, Quotas, Verdict, tokens_of

NOON = 20_000 * 86_400 + 43_200
ATTEMPT = Attempt(upstream="engine", local=False, outcome="ok", milliseconds=1)


def _table() -> QuotaTable:
    return QuotaTable.alone()


@dataclass(slots=True, kw_only=True)
class World:
    """A table and both clocks, moved by hand."""

    table: QuotaTable = field(default_factory=_table)
    nanoseconds: int = 5 * SECOND
    wall: float = NOON

    def quotas(self) -> Quotas:
        return Quotas(self.table, monotonic=lambda: self.nanoseconds, wall=lambda: self.wall)


def principal(name: str = "alice", **quota: Any) -> Principal:
    grant = Grant(quota=Quota(**quota) if quota else None)
    return Principal(sub=subject_of(name.encode()), grant=grant, label=name)


def outcome(tokens: int | None = None, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "jti": "0" * 32,
        "method": "POST",
        "path": "/v1/chat/completions",
        "sub": Digest.of(b""),
        "grant_digest": Digest.of(b""),
        "lineage": LineageContext(txn="t", span="0" * 16),
        "inline": False,
        "end": End.COMPLETE,
        "decision": "allow",
        "status": 200,
        "attempts": (ATTEMPT,),
        "usage": None if tokens is None else Reported(total=tokens),
    }
    return Outcome(**(fields | changes))


def header(verdict: Verdict, name: str) -> str:
    headers = dict(verdict.headers)
    if verdict.refusal is not None:
        headers |= dict(verdict.refusal.headers)
    return headers[name.encode()].decode()


def code(verdict: Verdict) -> str | None:
    return None if verdict.refusal is None else verdict.refusal.code


# -- requests a minute ---------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 60, 100, 100_000])
def test_a_minutes_worth_is_admitted_at_once_and_not_one_more(limit: int) -> None:
    world = World()
    quotas, alice = world.quotas(), principal(requests_per_minute=limit)
    # The rest of a large limit is as good as the first hundred.
    world.table.write(alice.sub, Usage(), 0)
    burst = min(limit, 200)
    if limit > burst:
        full = world.nanoseconds + (limit - burst) * (MINUTE // limit)
        world.table.write(alice.sub, Usage(requests_full=full), 0)
    assert [code(quotas.admit(alice)) for _ in range(burst)] == [None] * burst
    assert code(quotas.admit(alice)) == "requests_per_minute"


def test_refused_request_is_admitted_exactly_when_it_was_told() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(requests_per_minute=6)
    for _ in range(6):
        assert code(quotas.admit(alice)) is None
    world.nanoseconds += 3 * SECOND
    refused = quotas.admit(alice)
    assert (refused.kind, refused.refusal and refused.refusal.status) == ("requests", 429)
    assert header(refused, "retry-after") == "7"
    assert header(refused, "retry-after-ms") == "7000"
    assert "7 seconds" in (refused.refusal.message if refused.refusal else "")
    world.nanoseconds += 7 * SECOND - 1
    assert code(quotas.admit(alice)) == "requests_per_minute"
    world.nanoseconds += 1
    assert code(quotas.admit(alice)) is None
    assert code(quotas.admit(alice)) == "requests_per_minute"


def test_refusals_take_nothing() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(requests_per_minute=1)
    quotas.admit(alice)
    for _ in range(50):
        assert code(quotas.admit(alice)) == "requests_per_minute"
    world.nanoseconds += MINUTE
    assert code(quotas.admit(alice)) is None


def test_headers_are_those_of_openai_and_true() -> None:
    world = World()
    quotas = world.quotas()
    alice = principal(requests_per_minute=60, tokens_per_minute=600)
    first = quotas.admit(alice)
    assert dict(first.headers) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1.000s",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"600",
        b"x-ratelimit-reset-tokens": b"0.000s",
    }
    quotas.charge(alice, outcome(155))
    second = quotas.admit(alice)
    assert header(second, "x-ratelimit-remaining-requests") == "58"
    assert header(second, "x-ratelimit-remaining-tokens") == "445"
    assert header(second, "x-ratelimit-reset-tokens") == "15.500s"


def test_caller_without_quota_has_no_headers_and_no_record() -> None:
    world = World()
    quotas, alice = world.quotas(), principal()
    assert quotas.admit(alice) == Verdict()
    quotas.charge(alice, outcome(1000))
    assert world.table.read(alice.sub) == Usage()


@settings(max_examples=60)
@given(
    st.integers(1, 50),
    st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=120),
)
def test_requests_in_any_time_are_at_most_a_minutes_worth_and_what_refills(
    limit: int, pauses: list[int]
) -> None:
    world = World()
    quotas, alice = world.quotas(), principal(requests_per_minute=limit)
    admitted: list[int] = []
    level, then = Fraction(limit), world.nanoseconds
    for pause in pauses:
        world.nanoseconds += pause
        now = world.nanoseconds
        level, then = min(Fraction(limit), level + Fraction((now - then) * limit, MINUTE)), now
        verdict = quotas.admit(alice)
        # Steps are rounded down by less than a nanosecond: that much in the caller's favour.
        slack = Fraction((len(admitted) + 1) * limit, MINUTE)
        if verdict.refusal is None:
            admitted.append(now)
            assert level + slack >= 1
            level -= 1
        else:
            assert level < 1
    for start, first in enumerate(admitted):
        for end in range(start, len(admitted)):
            span = Fraction((admitted[end] - first) * limit, MINUTE)
            assert end - start + 1 <= limit + span + Fraction(1, 1000)


# -- tokens a minute -----------------------------------------------------------------------


def test_tokens_are_taken_after_the_answer_and_debts_are_waited_for() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(tokens_per_minute=1000)
    assert code(quotas.admit(alice)) is None
    quotas.charge(alice, outcome(999))
    assert code(quotas.admit(alice)) is None
    quotas.charge(alice, outcome(501))
    refused = quotas.admit(alice)
    assert (code(refused), refused.kind) == ("tokens_per_minute", "tokens")
    # 500 tokens of debt: 30 s until the bucket is empty, a moment more until it holds something.
    assert header(refused, "retry-after-ms") == "30001"
    assert header(refused, "x-ratelimit-remaining-tokens") == "0"
    world.nanoseconds += 30 * SECOND
    assert code(quotas.admit(alice)) == "tokens_per_minute"
    world.nanoseconds += 1
    assert code(quotas.admit(alice)) is None


def test_engine_that_reports_absurd_counts_costs_a_day_and_no_more() -> None:
    world = World()
    quotas = world.quotas()
    alice = principal(tokens_per_minute=1, token_budget=10**15)
    quotas.charge(alice, outcome(2**62))
    quotas.charge(alice, outcome(2**62))
    world.nanoseconds += 86_400 * SECOND
    assert code(quotas.admit(alice)) == "insufficient_quota"
    assert world.table.read(alice.sub).tokens_full <= world.nanoseconds


def test_request_that_tokens_refuse_takes_no_request() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(requests_per_minute=2, tokens_per_minute=10)
    quotas.admit(alice)
    quotas.charge(alice, outcome(11))
    for _ in range(5):
        refused = quotas.admit(alice)
        assert code(refused) == "tokens_per_minute"
        assert header(refused, "x-ratelimit-remaining-requests") == "1"


# -- budgets -------------------------------------------------------------------------------


def test_budget_in_all_ends_for_good() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(token_budget=100)
    assert code(quotas.admit(alice)) is None
    quotas.charge(alice, outcome(99))
    assert code(quotas.admit(alice)) is None
    quotas.charge(alice, outcome(50))
    refused = quotas.admit(alice)
    assert (code(refused), refused.kind) == ("insufficient_quota", "budget")
    assert header(refused, "x-should-retry") == "false"
    world.nanoseconds += 1000 * MINUTE
    world.wall += 10 * 86_400
    assert code(quotas.admit(alice)) == "insufficient_quota"
    assert b"retry-after" not in dict(refused.refusal.headers if refused.refusal else ())


def test_budget_of_a_day_is_new_at_midnight_utc() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(token_budget=100, budget_period=Period.DAY)
    quotas.charge(alice, outcome(100))
    refused = quotas.admit(alice)
    assert header(refused, "retry-after") == str(43_200)
    assert header(refused, "x-should-retry") == "false"
    world.wall = NOON + 43_199
    assert code(quotas.admit(alice)) == "insufficient_quota"
    world.wall = NOON + 43_200
    assert code(quotas.admit(alice)) is None


def test_clock_that_is_set_back_gives_no_new_budget() -> None:
    world = World()
    quotas, alice = world.quotas(), principal(token_budget=100, budget_period=Period.DAY)
    quotas.charge(alice, outcome(100))
    world.wall = NOON - 86_400
    assert code(quotas.admit(alice)) == "insufficient_quota"
    quotas.charge(alice, outcome(1))
    world.wall = NOON
    assert code(quotas.admit(alice)) == "insufficient_quota"


def test_other_callers_are_not_affected() -> None:
    world = World()
    quotas = world.quotas()
    for name in ("alice", "bob"):
        one = principal(name, requests_per_minute=1, tokens_per_minute=5, token_budget=5)
        assert code(quotas.admit(one)) is None
        quotas.charge(one, outcome(5))
        assert code(quotas.admit(one)) == "insufficient_quota"


# -- what is charged -----------------------------------------------------------------------


def body(length: int) -> Body:
    return Body(digest=Digest.of(b""), length=length)


@pytest.mark.parametrize(
    ("ended", "tokens"),
    [
        (outcome(42), 42),
        (outcome(usage=Reported(input=3, output=4)), 7),
        (outcome(usage=Reported(output=4)), 4),
        (outcome(usage=Reported(input=3, output=4, total=9)), 9),
        # No count: bytes and events stand in for it.
        (outcome(request=body(9), response=body(8)), 5),
        (outcome(request=body(8), response=body(4000), events=11), 13),
        (outcome(request=body(8), end=End.CLIENT_ABORT, status=None), 2),
        (outcome(request=body(8), events=3, end=End.UPSTREAM_ERROR), 5),
        # Nothing ran.
        (outcome(request=body(8), decision="concurrency", status=429, attempts=()), 0),
        (outcome(request=body(8), decision="undecided", attempts=()), 0),
        (outcome(request=body(8), response=body(40), status=400), 0),
        (outcome(request=body(8), response=body(40), status=502, end=End.UPSTREAM_ERROR), 0),
        (outcome(request=body(8), response=body(40), path="/tokenize"), 0),
        (outcome(request=body(8), response=body(40), path="/v1/messages/count_tokens"), 0),
        (outcome(), 0),
    ],
)
def test_charge_is_the_engines_count_or_a_documented_estimate(ended: Outcome, tokens: int) -> None:
    assert tokens_of(ended) == tokens


def test_request_without_an_outcome_is_not_charged() -> None:
    world = World()
    alice = principal(token_budget=1)
    world.quotas().charge(alice, None)
    assert code(world.quotas().admit(alice)) is None


def test_grant_without_a_budget_begins_no_budget_of_the_same_caller_anew() -> None:
    # Two tokens of one subject may have grants of two rules.
    world = World()
    quotas = world.quotas()
    daily = principal(token_budget=10, budget_period=Period.DAY)
    chatty, unlimited = principal(requests_per_minute=9), principal(tokens_per_minute=10**6)
    quotas.charge(daily, outcome(10))
    for other in (chatty, unlimited):
        assert code(quotas.admit(other)) is None
        quotas.charge(other, outcome(1))
        assert code(quotas.admit(daily)) == "insufficient_quota"
    world.wall += 86_400
    assert code(quotas.admit(daily)) is None


# -- one state for all workers -------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_quota_table()
    yield descriptor
    os.close(descriptor)


def test_workers_share_one_limit(memory: int) -> None:
    worlds = [World(table=QuotaTable(memory)) for _ in range(3)]
    alice = principal(requests_per_minute=4, token_budget=10)
    codes = [code(worlds[at % 3].quotas().admit(alice)) for at in range(6)]
    assert codes == [None] * 4 + ["requests_per_minute"] * 2
    worlds[0].quotas().charge(alice, outcome(10))
    assert code(worlds[2].quotas().admit(alice)) == "insufficient_quota"


def test_latest_clock_of_any_worker_counts_for_all(memory: int) -> None:
    one, two = QuotaTable(memory), QuotaTable(memory)
    assert one.latest(100) == 100
    assert two.latest(50) == 100
    assert two.latest(101) == 101
    assert one.latest(100) == 101


def _admit_many(memory: int, rounds: int, admitted: Callable[[int], object]) -> None:
    quotas = Quotas(QuotaTable(memory), monotonic=lambda: SECOND, wall=lambda: NOON)
    alice = principal(requests_per_minute=1000, token_budget=10**9)
    count = 0
    for _ in range(rounds):
        count += quotas.admit(alice).refusal is None
        quotas.charge(alice, outcome(3))
    admitted(count)


def test_processes_that_count_at_once_lose_nothing(memory: int) -> None:
    pipes, children = [os.pipe() for _ in range(3)], []
    for _, writing in pipes:
        child = os.fork()
        if child == 0:
            try:
                _admit_many(memory, 500, lambda n, to=writing: os.write(to, b"%d" % n))  # type: ignore[misc]
            finally:
                os._exit(0)
        children.append(child)
    counts = [int(os.read(reading, 20)) for reading, _ in pipes]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    for ends in pipes:
        for end in ends:
            os.close(end)
    assert sum(counts) == 1000
    assert QuotaTable(memory).read(principal().sub).spent == 3 * 500 * 3


# -- the table is bounded ------------------------------------------------------------------


def crowd(table: QuotaTable, size: int) -> list[Digest]:
    """Digests that all belong to one set of the table."""
    names = (subject_of(b"%d" % at) for at in count())
    return list(islice((sub for sub in names if table.set_of(sub) == 7), size))


def test_names_that_fill_one_set_of_a_table_fill_none_of_another() -> None:
    names = crowd(_table(), 17)
    assert len({_table().set_of(sub) for sub in names}) > 4


def test_record_that_is_full_again_soonest_makes_room_and_budgets_never_do() -> None:
    table = _table()
    subs = crowd(table, 20)
    for at, sub in enumerate(subs[:15]):
        assert table.write(sub, Usage(requests_full=100 - at), 7)
    assert table.write(subs[15], Usage(spent=5), 7)
    assert table.write(subs[16], Usage(requests_full=1), 7)
    assert table.read(subs[14]) == Usage()
    assert table.read(subs[15]).spent == 5
    assert table.read(subs[0]).requests_full == 100


def test_budget_for_which_there_is_no_room_is_not_begun() -> None:
    world = World()
    subs = crowd(world.table, 17)
    for sub in subs[:16]:
        assert world.table.write(sub, Usage(spent=1), 0)
    grant = Grant(quota=Quota(token_budget=5))
    verdict = world.quotas().admit(Principal(sub=subs[16], grant=grant, label=""))
    assert (code(verdict), verdict.kind) == ("quota_unavailable", "table")
    assert verdict.refusal is not None
    assert verdict.refusal.status == 503


def test_budget_of_an_old_day_makes_room() -> None:
    table = _table()
    subs = crowd(table, 17)
    for at, sub in enumerate(subs[:16]):
        assert table.write(sub, Usage(spent=1, day=6 if at == 3 else 7), 7)
    assert table.write(subs[16], Usage(spent=1), 7)
    assert table.read(subs[3]) == Usage()
    assert table.read(subs[4]).spent == 1


def test_digest_that_lies_across_two_records_is_not_found() -> None:
    table = _table()
    sub = Digest(b"\0\7" + bytes(30))
    # Bytes 8 to 40 of this record are those of `sub`: two bytes that look like its beginning.
    ends = b"\0\7" + bytes(22)
    others = (Digest(at.to_bytes(8, "big") + ends) for at in count(1))
    other = next(one for one in others if table.set_of(one) == table.set_of(sub))
    table.write(other, Usage(), 0)
    assert table.read(sub) == Usage()
    assert table.write(sub, Usage(spent=3), 0)
    assert table.read(sub).spent == 3
    assert table.read(other) == Usage(day=FOREVER)
