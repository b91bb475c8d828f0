"""More than the gateway may take on: turned away cheaply, said clearly, and nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from attestation.receipt.claims import End
from gateway.edge.limits import EdgeLimits
from gateway.engine.scripted import JSON, Close, Script
from gateway.engine.wire import EngineRequest
from tests.outcomes.bench import ANSWER, PATIENT, PLAIN, QUESTION, STREAM, Bench, Client
from tests.outcomes.conftest import Start

MUTE = Script(close=Close.MUTE)


class Engine:
    """Says nothing to whoever asks first, and answers all others with `then`."""

    def __init__(self, then: Script = PLAIN) -> None:
        self._then = then
        self.asked = asyncio.Event()

    def __call__(self, _request: EngineRequest) -> Script:
        if self.asked.is_set():
            return self._then
        self.asked.set()
        return MUTE


async def occupy(bench: Bench, engine: Engine, body: bytes = QUESTION) -> Client:
    """Send a request that stays under way until its client leaves."""
    client = await bench.connect()
    client.send(bench.request(body))
    await asyncio.wait_for(engine.asked.wait(), 60)
    return client


async def released(bench: Bench, client: Client) -> None:
    """Leave, and wait until nothing of the request is left."""
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    async with asyncio.timeout(60):
        while bench.routes._load.requests:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


def nothing_is_held(bench: Bench) -> bool:
    load = bench.routes._load
    return (load.requests, load.held_bytes) == (0, 0)


@pytest.mark.parametrize("key", [None, "nobody"])
async def test_request_beyond_the_bound_is_turned_away_before_its_key_is_looked_at(
    start: Start, key: str | None
) -> None:
    engine = Engine()
    bench = await start(engine, limits=EdgeLimits(in_flight=1), upstream_limits=PATIENT)
    client = await occupy(bench, engine)
    waits = []
    for _ in range(3):
        reply = await bench.ask(key=key)
        assert (reply.status, reply.error()["code"]) == (503, "overloaded")
        assert {"x-receipt-id", "x-should-retry"}.isdisjoint(reply.headers)
        waits.append(reply.headers["retry-after"])
    assert sorted(waits) == ["1", "2", "3"]
    assert len(bench.engine.requests) == 1
    assert bench.metric("attested_in_flight") == 1
    assert bench.metric("attested_unauthenticated_total") == 0
    await released(bench, client)
    assert (await bench.ask()).status == 200
    assert bench.receipts == 2
    assert nothing_is_held(bench)


async def test_turned_away_request_leaves_its_connection_as_it_was(start: Start) -> None:
    engine = Engine()
    bench = await start(engine, limits=EdgeLimits(in_flight=1), upstream_limits=PATIENT)
    busy = await occupy(bench, engine)
    client = await bench.connect()
    client.send(bench.request())
    assert (await client.reply()).status == 503
    await released(bench, busy)
    client.send(bench.request())
    assert (await client.reply()).status == 200


async def test_body_without_room_is_refused_with_a_receipt_and_never_forwarded(
    start: Start,
) -> None:
    engine = Engine()
    bench = await start(
        engine, limits=EdgeLimits(buffered_bytes=2 * len(QUESTION) - 1), upstream_limits=PATIENT
    )
    client = await occupy(bench, engine)
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (503, "no_memory")
    assert reply.headers["retry-after"] == "1"
    claims = (await bench.sealed(reply.jti)).claims
    assert claims.response.end is End.LIMIT
    assert claims.decision.code == "no_memory"
    assert claims.request.partial
    assert len(bench.engine.requests) == 1
    await released(bench, client)
    assert nothing_is_held(bench)


async def test_answer_without_room_is_not_to_be_asked_for_again(start: Start) -> None:
    limits = EdgeLimits(buffered_bytes=len(QUESTION) + len(ANSWER) - 1)
    bench = await start(PLAIN, limits=limits)
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (503, "no_memory_for_answer")
    assert reply.headers["x-should-retry"] == "false"
    claims = (await bench.sealed(reply.jti)).claims
    assert claims.response.end is End.LIMIT
    assert claims.response.engine is not None
    assert nothing_is_held(bench)


async def test_room_for_exactly_one_request_and_answer_is_enough(start: Start) -> None:
    limits = EdgeLimits(buffered_bytes=len(QUESTION) + len(ANSWER))
    bench = await start(PLAIN, limits=limits)
    for _ in range(3):
        assert (await bench.ask()).status == 200
    assert nothing_is_held(bench)


async def test_stream_needs_room_for_its_request_only(start: Start) -> None:
    bench = await start(STREAM, limits=EdgeLimits(buffered_bytes=len(QUESTION)))
    reply = await bench.ask()
    assert (reply.status, reply.ended) == (200, True)
    assert nothing_is_held(bench)


async def test_refused_body_is_hashed_and_not_held(start: Start) -> None:
    bench = await start(PLAIN, limits=EdgeLimits(buffered_bytes=1))
    reply = await bench.ask(headers=("content-encoding: gzip",))
    assert reply.status == 415
    assert nothing_is_held(bench)


ENDINGS = {
    "complete": PLAIN,
    "stream": STREAM,
    "engine error": Script(writes=(ANSWER,), content_type=JSON, status=500, close=Close.LENGTH),
    "dropped": Script(close=Close.DROP),
    "short": Script(writes=(ANSWER,), content_type=JSON, close=Close.SHORT),
    "cut stream": Script(writes=STREAM.writes[:1], close=Close.NO_LAST_CHUNK),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_every_ending_gives_back_what_the_request_took(start: Start, ending: str) -> None:
    bench = await start(ENDINGS[ending])
    for body in (QUESTION, b"{", QUESTION * 2):
        await bench.ask(body)
    await bench.ask(path="/v1/nowhere")
    assert nothing_is_held(bench)
