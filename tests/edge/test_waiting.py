"""A notary that says nothing costs a 503 after a bound, and its own word brings requests back."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.edge.waiting import NotaryWaits, WaitLimits
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Notary
from tests.support.clocks import FakeTime, settle

LIMITS = WaitLimits(slow_seconds=5.0, patience_seconds=30.0, late_seconds=1.0)


class Silent:
    """A notary whose answers are given by hand."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[bytes | None]] = []
        self.mute = False

    async def read_log(self, _path: str) -> bytes | None:
        if not self.mute:
            return b"checkpoint"
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


class Bench:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.notary = Silent()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.waits = NotaryWaits(
            cast("Notary", self.notary),
            LIMITS,
            clock=self.time.clock,
            emit=lambda event, **fields: self.events.append((event, fields)),
        )

    def seal(self) -> tuple[asyncio.Task[str], asyncio.Future[str]]:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return asyncio.create_task(self.waits.wait(answer)), answer


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    bench.waits.start()
    yield bench
    await bench.waits.close()


async def test_answer_in_time_is_handed_on_and_leaves_nothing_behind(bench: Bench) -> None:
    waiting, answer = bench.seal()
    await bench.time.advance(4.0)
    assert (bench.waits.oldest, bench.waits.reason) == (4.0, "")
    answer.set_result("sealed")
    assert await waiting == "sealed"
    assert (bench.waits.oldest, bench.events) == (0.0, [])


async def test_wait_over_the_bound_refuses_new_requests_until_it_ends(bench: Bench) -> None:
    waiting, answer = bench.seal()
    await bench.time.advance(7.0)
    assert bench.waits.reason == "notary_slow"
    assert not waiting.done()
    answer.set_result("sealed")
    await bench.time.advance(1.0)
    assert (await waiting, bench.waits.reason) == ("sealed", "")
    assert bench.events == [("notary.slow", {"seconds": 6}), ("notary.answers", {})]
    assert bench.waits.degraded == "seals_slow"
    await bench.time.advance(40.0)
    assert bench.waits.degraded == ""


async def test_whoever_waits_too_long_is_let_go_and_only_they(bench: Bench) -> None:
    first, _ = bench.seal()
    await bench.time.advance(20.0)
    second, answer = bench.seal()
    await bench.time.advance(11.5)
    with pytest.raises(NotaryUnavailable):
        await first
    assert not second.done()
    assert first.cancelling() == 0
    answer.set_result("late")
    await settle()
    assert await second == "late"


async def test_who_is_let_go_can_go_on_with_other_work(bench: Bench) -> None:
    async def request() -> str:
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        with pytest.raises(NotaryUnavailable):
            await bench.waits.wait(never)
        await asyncio.sleep(0)
        return "answered with 503"

    running = asyncio.create_task(request())
    await bench.time.advance(32.0)
    assert await running == "answered with 503"


async def test_cancelled_by_the_server_is_cancelled_even_if_it_was_let_go_as_well(
    bench: Bench,
) -> None:
    waiting, _ = bench.seal()
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    again, _ = bench.seal()
    await settle()
    again.cancel()  # not delivered yet when it is let go
    bench.time.now += 31.0
    bench.waits.look()
    with pytest.raises(asyncio.CancelledError):
        await again


async def test_error_of_the_notary_is_the_error_of_who_waits(bench: Bench) -> None:
    waiting, answer = bench.seal()
    answer.set_exception(NotaryUnavailable("ended"))
    with pytest.raises(NotaryUnavailable, match="ended"):
        await waiting
    assert bench.waits.oldest == 0.0


async def test_notary_that_answers_no_question_is_slow_without_any_request(bench: Bench) -> None:
    bench.notary.mute = True
    await bench.time.advance(1.0)
    await bench.time.advance(7.0)
    assert bench.waits.reason == "notary_slow"
    assert len(bench.notary.answers) == 1
    bench.notary.answers[0].set_exception(NotaryUnavailable("a refusal is an answer too"))
    bench.notary.mute = False
    await bench.time.advance(1.0)
    assert bench.waits.reason == ""


async def test_age_of_the_longest_wait_is_a_metric(bench: Bench) -> None:
    waiting, _ = bench.seal()
    await bench.time.advance(3.0)
    assert bench.waits.snapshot() == {"attested_seal_waiting_seconds": [[[], 3.0]]}
    waiting.cancel()
