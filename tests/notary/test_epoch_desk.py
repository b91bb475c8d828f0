"""When the log is quoted, what an epoch states, and what happens when the platform does not."""

from __future__ import annotations

import asyncio
from itertools import repeat

import pytest

from attestation.encoding.digest import Digest
from attestation.merkle.note import parse_note
from attestation.tdx.quote import parse_quote
from gateway.notary.log.segments import Location
from gateway.notary.quotes.book import EpochBook
from gateway.notary.quotes.epochs import Pacing
from gateway.notary.quotes.turns import Purpose
from tests.notary.desks import BOOT_QUOTE, Bench


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_log_without_receipts_is_never_quoted(bench: Bench) -> None:
    bench.log.size = 7  # the boot statement, epochs
    bench.desk.notice()
    await bench.time.advance(1000)
    assert bench.starts == []
    assert bench.desk.age == 0


async def test_first_receipt_is_quoted_at_once(bench: Bench) -> None:
    bench.receipt()
    await bench.time.advance(0)
    assert bench.starts == [0]
    assert bench.reports == [("anchored", 2)]


async def test_log_that_stays_clean_is_not_quoted_again(bench: Bench) -> None:
    bench.receipt()
    await bench.time.advance(100)
    assert bench.starts == [0]


async def test_epochs_start_ten_seconds_apart_while_receipts_come_in(bench: Bench) -> None:
    for _ in range(35):
        bench.receipt()
        await bench.time.advance(1)
    assert bench.starts == [0, 10, 20, 30]
    assert [statement.epoch for statement in bench.statements] == [0, 1, 2, 3]
    assert [statement.completed for statement in bench.statements] == [1, 10, 20, 30]


async def test_receipt_after_idle_time_is_quoted_at_once(bench: Bench) -> None:
    bench.receipt()
    await bench.time.advance(60)
    bench.receipt()
    await bench.time.advance(0)
    assert bench.starts == [0, 60]


async def test_ten_seconds_count_from_the_start_of_a_slow_quote(bench: Bench) -> None:
    bench.quoter.latency = 4
    bench.receipt()
    await bench.time.advance(5)
    bench.receipt()
    await bench.time.advance(20)
    assert bench.starts == [0, 10]


async def test_who_waits_brings_the_next_epoch_to_two_seconds_after_the_last(bench: Bench) -> None:
    bench.receipt()
    await bench.time.advance(0.5)
    index = bench.receipt()
    waiting = bench.wait_for(index)
    await bench.time.advance(1.4)
    assert not waiting.done()
    await bench.time.advance(0.1)
    assert waiting.done()
    assert bench.starts == [0, 2]


async def test_many_who_wait_force_no_more_than_one_epoch_every_two_seconds(bench: Bench) -> None:
    for _ in range(39):
        bench.wait_for(bench.receipt())
        await bench.time.advance(0.25)
    assert bench.starts == [0, 2, 4, 6, 8]


async def test_who_waits_for_an_anchored_leaf_does_not_wait(bench: Bench) -> None:
    index = bench.receipt()
    await bench.time.advance(0)
    await asyncio.wait_for(bench.desk.wait_anchored(index, 30), 60)
    assert bench.starts == [0]


async def test_who_waits_is_let_go_in_time_when_no_quote_comes(bench: Bench) -> None:
    bench.quoter.latency = 1000
    waiting = bench.wait_for(bench.receipt(), seconds=30)
    await bench.time.advance(29.9)
    assert not waiting.done()
    await bench.time.advance(0.2)
    assert waiting.done()


async def test_one_quote_at_a_time_however_many_receipts_come(bench: Bench) -> None:
    bench.quoter.latency = 25
    for _ in range(30):
        bench.wait_for(bench.receipt())
        await bench.time.advance(1)
    assert bench.starts == [0, 25]


async def test_epoch_covers_what_was_durable_when_its_quote_began(bench: Bench) -> None:
    bench.quoter.latency = 3
    bench.receipt()
    await bench.time.advance(1)
    late = bench.receipt()
    await bench.time.advance(2)
    assert bench.desk.book.covered == 2
    assert bench.desk.book.covering(late) is None
    await bench.time.advance(10)
    assert bench.desk.book.covering(late) == 1


async def test_quote_waits_for_the_checkpoint_to_be_durable(bench: Bench) -> None:
    bench.log.checkpoint_kept = kept = asyncio.get_running_loop().create_future()
    bench.receipt()
    await bench.time.advance(5)
    assert bench.starts == []
    kept.set_result(Location(0, 0))
    await bench.time.advance(0)
    assert bench.starts == [5]
    assert bench.statements[0].size == 2


async def test_statement_states_log_counters_and_chain(bench: Bench) -> None:
    bench.receipt()
    bench.log.running = 5
    await bench.time.advance(0)
    bench.receipt()
    await bench.time.advance(10)
    first, second = bench.statements
    assert (first.admitted, first.completed, first.in_flight) == (6, 1, 5)
    assert (first.unauthenticated, first.refused_unreceipted) == (3, 4)
    assert first.prev_quote_digest == first.boot_quote_digest == BOOT_QUOTE
    assert second.prev_quote_digest == parse_quote(bench.log.epochs[0].quote).digest
    for epoch in bench.log.epochs:
        text = parse_note(epoch.checkpoint).text
        assert epoch.statement.checkpoint_digest == Digest.of(text.encode())
        assert parse_quote(epoch.quote).body.report_data == epoch.statement.report_data


async def test_failed_epoch_is_tried_again_after_the_pause_over_the_log_as_it_is_then(
    bench: Bench,
) -> None:
    bench.quoter.faults = iter(["quote_failed"])
    bench.quoter.pause = 3
    bench.receipt()
    await bench.time.advance(1)
    bench.receipt()
    await bench.time.advance(2)
    assert bench.starts == [0, 3]
    (statement,) = bench.statements
    assert (statement.epoch, statement.size) == (0, 3)
    assert statement.prev_quote_digest == BOOT_QUOTE
    assert bench.reports == [("quote_failed", 0), ("anchored", 3)]


async def test_platform_that_never_quotes_leaves_receipts_waiting_and_is_asked_on(
    bench: Bench,
) -> None:
    bench.quoter.faults = repeat("quote_failed")
    bench.quoter.pause = 30
    bench.receipt()
    await bench.time.advance(95)
    assert bench.starts == [0, 30, 60, 90]
    assert bench.log.epochs == []
    assert bench.desk.age == 95


async def test_age_is_how_long_receipts_have_been_waiting(bench: Bench) -> None:
    await bench.time.advance(50)
    bench.quoter.latency = 4
    bench.receipt()
    await bench.time.advance(3)
    assert bench.desk.age == 3
    bench.receipt()
    await bench.time.advance(2)
    assert bench.desk.age == 5  # since the start of the quote that did not cover the second one
    await bench.time.advance(20)
    assert bench.desk.age == 0


async def test_quote_from_another_trust_domain_is_no_epoch_and_ends_the_desk(bench: Bench) -> None:
    bench.strange = True
    bench.receipt()
    await bench.time.advance(0)
    bench.strange = False
    bench.receipt()
    await bench.time.advance(100)
    assert bench.log.epochs == []
    assert bench.starts == [0]


async def test_log_that_takes_nothing_any_more_gets_no_second_attempt(bench: Bench) -> None:
    bench.log.ended = True
    bench.receipt()
    await bench.time.advance(100)
    assert bench.starts == [0]
    assert bench.desk.book.count == 0


async def test_fault_of_ours_is_reported_and_the_next_attempt_follows(bench: Bench) -> None:
    snapshot = bench.log.snapshot

    def broken() -> object:
        bench.log.snapshot = snapshot  # type: ignore[method-assign]
        raise LookupError

    bench.log.snapshot = broken  # type: ignore[method-assign, assignment]
    bench.receipt()
    await bench.time.advance(0)
    assert bench.reports == [("internal", 0)]
    await bench.time.advance(1)
    assert bench.reports == [("internal", 0), ("anchored", 2)]


async def test_rest_is_quoted_at_the_end_without_waiting_ten_seconds(bench: Bench) -> None:
    bench.receipt()
    await bench.time.advance(1)
    index = bench.receipt()
    finishing = asyncio.create_task(bench.desk.finish(30))
    await bench.time.advance(0)
    assert finishing.done()
    assert bench.starts == [0, 1]
    assert bench.desk.book.covering(index) == 1


async def test_epoch_that_runs_at_the_end_is_followed_by_one_over_the_rest(bench: Bench) -> None:
    bench.quoter.latency = 2
    bench.receipt()
    await bench.time.advance(1)
    bench.receipt()
    finishing = asyncio.create_task(bench.desk.finish(30))
    await bench.time.advance(3)
    assert finishing.done()
    assert [statement.size for statement in bench.statements] == [2, 4]


async def test_nothing_is_quoted_at_the_end_of_a_clean_log(bench: Bench) -> None:
    await asyncio.wait_for(bench.desk.finish(30), 60)
    assert bench.starts == []


async def test_platform_that_hangs_holds_the_end_up_for_a_bounded_time(bench: Bench) -> None:
    bench.quoter.latency = 1000
    waiting = bench.wait_for(bench.receipt())
    finishing = asyncio.create_task(bench.desk.finish(30))
    await bench.time.advance(29)
    assert not finishing.done()
    await bench.time.advance(1)
    assert finishing.done()
    assert waiting.done()
    assert bench.log.epochs == []


async def test_epoch_goes_before_challenges_that_wait(bench: Bench) -> None:
    order: list[str] = []
    turns = bench.quoter.turns

    async def challenge(name: str) -> None:
        async with turns.turn(Purpose.CHALLENGE):
            order.append(name)
            await bench.time.clock.sleep(1)

    bench.quoter.latency = 1
    tasks = [asyncio.create_task(challenge(name)) for name in ("first", "second", "third")]
    await bench.time.advance(0)
    bench.receipt()
    await bench.time.advance(1.5)
    assert order == ["first"]
    assert bench.starts == [1]
    await bench.time.advance(5)
    assert order == ["first", "second", "third"]
    await asyncio.gather(*tasks)


async def test_slow_platform_still_answers_challenges_between_forced_epochs() -> None:
    bench = Bench(Pacing(seconds=10, forced_seconds=2))
    bench.quoter.latency = 3
    answered: list[float] = []

    async def challenge() -> None:
        async with bench.quoter.turns.turn(Purpose.CHALLENGE):
            answered.append(bench.time.now)
            await bench.time.clock.sleep(3)

    for _ in range(30):
        bench.wait_for(bench.receipt())
        _task = asyncio.create_task(challenge())  # noqa: RUF006 - the loop keeps what waits here
        await bench.time.advance(1)
    assert len(bench.starts) >= 4
    assert len(answered) >= 4


async def test_cancelled_waiter_for_a_turn_passes_it_on(bench: Bench) -> None:
    turns = bench.quoter.turns

    async def take(purpose: Purpose) -> None:
        async with turns.turn(purpose):
            await asyncio.sleep(0)

    async with turns.turn(Purpose.CHALLENGE):
        tasks = [asyncio.create_task(take(Purpose.EPOCH)) for _ in range(3)]
        await bench.time.advance(0)
        tasks[0].cancel()
    tasks[1].cancel()  # the turn has just come to it
    await bench.time.advance(0)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert tasks[2].done()
    await asyncio.wait_for(take(Purpose.CHALLENGE), 60)


def test_leaf_belongs_to_the_first_epoch_that_covers_it() -> None:
    book = EpochBook()
    for size in (2, 5, 9):
        book.add(size, Location(0, size))
    assert [book.covering(index) for index in range(10)] == [0, 0, 1, 1, 1, 2, 2, 2, 2, None]
    assert book.location(2) == Location(0, 9)
    assert book.location(3) is None
    assert book.location(-1) is None


@pytest.mark.parametrize("size", [4, 5])
def test_epoch_that_covers_nothing_new_is_refused(size: int) -> None:
    book = EpochBook()
    book.add(5, Location(0, 0))
    with pytest.raises(ValueError, match="nothing new"):
        book.add(size, Location(0, 1))
