"""A notary that does not answer: callers are told in time, and every request has its receipt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

from attestation.receipt.claims import End
from attestation.receipt.outcome import Outcome
from gateway.edge.announcing import Announcing
from gateway.edge.waiting import NotaryWaits, WaitLimits
from gateway.notary.interface import Notary, SealedReceipt
from tests.outcomes.bench import ANSWER, DONE, EVENTS, PLAIN, STREAM, Bench
from tests.outcomes.conftest import Start

QUICK = WaitLimits(slow_seconds=0.2, patience_seconds=0.5, late_seconds=0.1, look_seconds=0.05)


class Slow:
    """The bench's notary, some of whose answers wait for `go_on`."""

    def __init__(self, bench: Bench, *, silent: str) -> None:
        self._notary = bench.notary
        self._silent = silent
        self.go_on = asyncio.Event()
        self.sealed: list[End] = []
        self._sealing: set[asyncio.Future[SealedReceipt]] = set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._notary, name)

    def hand_over(self) -> bool:
        return self._silent != "handed_over" or self.go_on.is_set()

    async def handed_over(self) -> None:
        if self._silent == "handed_over":
            await self.go_on.wait()

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        # As with the real one, what was sent stays sent, whoever waits for the answer or not.
        sealing = asyncio.ensure_future(self._seal(outcome))
        self._sealing.add(sealing)
        return await asyncio.shield(sealing)

    async def _seal(self, outcome: Outcome) -> SealedReceipt:
        if self._silent == "seal":
            await self.go_on.wait()
        receipt = await self._notary.seal(outcome)
        self.sealed.append(outcome.end)
        return receipt


@asynccontextmanager
async def slow(bench: Bench, *, silent: str) -> AsyncIterator[Slow]:
    notary = Slow(bench, silent=silent)
    as_notary = cast("Notary", notary)
    waits = NotaryWaits(as_notary, QUICK)
    bench.routes._notary = as_notary
    bench.routes._waits = waits
    bench.routes._announcing = Announcing(as_notary, waits)
    bench.routes._parts = replace(bench.routes._parts, notary=as_notary, waits=waits)
    waits.start()
    try:
        yield notary
    finally:
        notary.go_on.set()
        await waits.close()


async def test_request_that_cannot_be_handed_over_is_refused_and_sealed_later(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    async with slow(bench, silent="handed_over") as notary:
        reply = await bench.ask()
        assert (reply.status, reply.error()["code"]) == (503, "notary_unavailable")
        async with asyncio.timeout(60):
            while not notary.sealed:  # noqa: ASYNC110 - the gateway does it by itself
                await asyncio.sleep(0.01)
        # The notary knows of it, so it has its receipt; the engine never heard of it.
        assert notary.sealed == [End.GATEWAY_FAILURE]
        assert bench.engine.requests == []
        assert not bench.notary._ledger.running()
    assert bench.reported == []


async def test_answer_whose_receipt_does_not_come_is_discarded_in_time(start: Start) -> None:
    bench = await start(PLAIN)
    async with slow(bench, silent="seal") as notary:
        reply = await bench.ask()
        assert (reply.status, reply.error()["code"]) == (503, "receipt_unavailable")
        assert reply.headers["x-should-retry"] == "false"
        assert len(bench.engine.requests) == 1
        notary.go_on.set()
        claims = (await bench.sealed(reply.jti)).claims
    # The receipt tells of the engine's answer, which was to be delivered and was not.
    assert (claims.response.end, claims.response.length) == (End.COMPLETE, len(ANSWER))
    assert bench.reported == []


async def test_stream_whose_receipt_does_not_come_is_cut_before_its_terminal_frame(
    start: Start,
) -> None:
    bench = await start(STREAM)
    async with slow(bench, silent="seal") as notary:
        reply = await bench.ask()
        assert (reply.ended, reply.body) == (False, b"".join(EVENTS))
        notary.go_on.set()
        claims = (await bench.sealed(reply.jti)).claims
    assert claims.response.end is End.COMPLETE
    assert claims.response.length == len(reply.body) + len(DONE)
    assert bench.reported == []


async def test_requests_are_refused_at_once_while_the_notary_is_slow(start: Start) -> None:
    bench = await start(PLAIN)
    async with slow(bench, silent="seal"):
        first = asyncio.create_task(bench.ask())
        async with asyncio.timeout(60):
            while not bench.routes._waits.reason:  # noqa: ASYNC110 - looked at by the clock
                await asyncio.sleep(0.01)
        asked = len(bench.engine.requests)
        reply = await bench.ask()
        assert (reply.status, reply.error()["code"]) == (503, "notary_unavailable")
        assert reply.headers["retry-after"] == "5"
        assert len(bench.engine.requests) == asked
        assert (await first).status == 503
