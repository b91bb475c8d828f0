"""Requests that were announced and that nobody came to serve: each has its receipt all the same."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from gateway.edge import inference
from gateway.edge.caller import Caller
from gateway.edge.conversation import Conversation
from gateway.edge.inference import InferenceRoutes
from gateway.notary.interface import Notary
from tests.outcomes.bench import PLAIN, Bench
from tests.outcomes.conftest import Start

SECRET = "canary-41fe"


class Balking:
    """A notary that announces well and fails while what was announced is handed over to it."""

    def __init__(self, bench: Bench) -> None:
        self._notary = bench.notary
        self.waited_for = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._notary, name)

    def hand_over(self) -> bool:
        raise ZeroDivisionError(SECRET)


class Waiting(Balking):
    """A notary whose hand-over never ends."""

    def hand_over(self) -> bool:
        return False

    async def handed_over(self) -> None:
        self.waited_for.set()
        await asyncio.Event().wait()


async def nothing_is_left(bench: Bench) -> None:
    """Every request has come to its receipt, and its place is free."""
    await asyncio.gather(*bench.routes._announcing._sealing)
    assert bench.metric("attested_in_flight") == 0
    assert bench.receipts == 1
    assert bench.routes._load.requests == 0
    assert bench.routes._load.held_bytes == 0
    assert bench.routes._keys.slots.running(bench.sub) == 0
    assert bench.engine.requests == []


async def fails_with_a_receipt(bench: Bench) -> None:
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (500, "internal_error")
    assert SECRET.encode() not in reply.body
    assert [type(error) for error in bench.reported] == [ZeroDivisionError]
    await nothing_is_left(bench)


async def test_bug_while_a_request_is_handed_over_leaves_no_request_running(start: Start) -> None:
    bench = await start(PLAIN)
    bench.routes._notary = cast("Notary", Balking(bench))
    await fails_with_a_receipt(bench)


async def test_cancellation_while_a_request_is_handed_over_leaves_no_request_running(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    waiting = Waiting(bench)
    bench.routes._notary = cast("Notary", waiting)
    client = await bench.connect()
    client.send(bench.request())
    await asyncio.wait_for(waiting.waited_for.wait(), 60)
    await bench.server.stop()
    await nothing_is_left(bench)
    assert bench.reported == []


async def test_task_that_is_cancelled_before_it_begins_leaves_no_request_running(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse, over = InferenceRoutes.converse, asyncio.Event()

    async def cancelled(serving: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(serving)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        over.set()

    def cancelling(routes: InferenceRoutes, caller: Caller) -> Coroutine[Any, Any, None]:
        return cancelled(converse(routes, caller))

    monkeypatch.setattr(InferenceRoutes, "converse", cancelling)
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request())
    await asyncio.wait_for(over.wait(), 60)
    await nothing_is_left(bench)
    assert bench.reported == []


async def test_refusal_whose_task_is_cancelled_before_it_begins_is_not_left_behind(
    start: Start,
) -> None:
    bench = await start(PLAIN)
    caller = cast("Caller", Refused())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bench.routes.converse(caller).close()
        gc.collect()
    assert caught == []
    assert bench.routes._load.requests == 0


async def test_request_whose_task_is_never_made_leaves_no_request_running(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse, over = InferenceRoutes.converse, asyncio.Event()

    async def closed(serving: Coroutine[Any, Any, None]) -> None:
        serving.close()
        over.set()

    def closing(routes: InferenceRoutes, caller: Caller) -> Coroutine[Any, Any, None]:
        return closed(converse(routes, caller))

    monkeypatch.setattr(InferenceRoutes, "converse", closing)
    bench = await start(PLAIN)
    client = await bench.connect()
    client.send(bench.request())
    await asyncio.wait_for(over.wait(), 60)
    await nothing_is_left(bench)


class Refused:
    """A caller without a key."""

    path = "/v1/chat/completions"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    known = None

    def finish(self) -> None:
        """Nothing."""


class BalkingSlots:
    def __init__(self, bench: Bench) -> None:
        self._slots = bench.routes._keys.slots

    def __getattr__(self, name: str) -> object:
        return getattr(self._slots, name)

    def acquire(self, _principal: object) -> bool:
        raise ZeroDivisionError(SECRET)


async def test_bug_while_a_slot_is_taken_leaves_no_request_running(start: Start) -> None:
    bench = await start(PLAIN)
    bench.routes._keys.slots = cast("Any", BalkingSlots(bench))
    await fails_with_a_receipt(bench)


def broken(*_args: object, **_options: object) -> None:
    raise ZeroDivisionError(SECRET)


@pytest.mark.parametrize(
    ("place", "name"),
    [(inference, "exchange_of"), (Conversation, "__init__"), (Caller, "converse")],
    ids=["exchange", "conversation", "caller"],
)
async def test_bug_where_a_conversation_begins_leaves_no_request_running(
    start: Start, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    bench = await start(PLAIN)
    monkeypatch.setattr(place, name, broken)
    await fails_with_a_receipt(bench)


async def test_conversation_that_ends_without_an_outcome_leaves_no_request_running(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_conversation: Conversation) -> None:
        """End without a word."""

    bench = await start(PLAIN)
    monkeypatch.setattr(Conversation, "run", nothing)
    client = await bench.connect()
    client.send(bench.request())
    async with asyncio.timeout(60):
        while not bench.receipts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await nothing_is_left(bench)
