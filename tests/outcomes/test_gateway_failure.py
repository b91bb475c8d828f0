"""The gateway itself breaks: no answer without a receipt, and nothing of the content in sight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from attestation.receipt.claims import End
from attestation.receipt.exchange import Exchange
from attestation.receipt.outcome import Outcome
from gateway.access.principal import Principal, Quota
from gateway.access.quotas import Quotas, Verdict
from gateway.engine.scripted import Close, Script
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Notary, ReceiptState
from gateway.upstream import EngineCall, Engines, ResponseHead, UpstreamLimits
from tests.outcomes.bench import DONE, EVENTS, PLAIN, QUESTION, STREAM, Bench, Client
from tests.outcomes.conftest import Start
from tests.support.disks import BrokenSegments

SECRET = "canary-77ab"


class BrokenCall:
    """A call with a bug in it: it fails in a way nobody planned for."""

    label = "vllm/test"

    def __init__(self, head: ResponseHead | None, pieces: tuple[bytes, ...]) -> None:
        self._head = head
        self._pieces = list(pieces)
        self.attempts: list[object] = []
        self.complete = False

    async def head(self) -> ResponseHead:
        if self._head is None:
            raise RuntimeError(SECRET)
        return self._head

    async def read(self) -> bytes:
        if not self._pieces:
            raise RuntimeError(SECRET)
        return self._pieces.pop(0)

    async def pour(self, sink: Callable[[bytes], bool]) -> bool:
        while True:
            if not sink(await self.read()):
                return False

    def close(self) -> None:
        self.complete = False


class BrokenUpstream:
    def __init__(self, head: ResponseHead | None, *pieces: bytes) -> None:
        self._call = BrokenCall(head, pieces)

    def serves(self, _model: str | None) -> bool:
        return True

    def start(self, **_: object) -> EngineCall:
        return cast("EngineCall", self._call)


def with_upstream(bench: Bench, upstream: BrokenUpstream) -> None:
    """Put a broken part in the place of the engine client."""
    bench.routes._parts = replace(bench.routes._parts, upstream=cast("Engines", upstream))


JSON_HEAD = ResponseHead(status=200, content_type="application/json")
STREAM_HEAD = ResponseHead(status=200, content_type="text/event-stream")


class BrokenQuotas:
    def admit(self, _principal: Principal) -> Verdict:
        raise OSError(SECRET)


async def test_quota_that_cannot_be_read_costs_no_receipt_and_no_slot(start: Start) -> None:
    bench = await start(PLAIN)
    key = bench.new_key(quota=Quota(requests_per_minute=60), concurrency=1)
    client = await bench.connect()
    quotas = bench.routes._keys.quotas
    bench.routes._keys.quotas = cast("Quotas", BrokenQuotas())
    client.send(bench.request(key=key))
    reply = await client.reply()
    assert (reply.status, reply.error()["code"]) == (500, "internal_error")
    assert reply.headers["x-should-retry"] == "false"
    assert SECRET.encode() not in reply.body
    assert [type(error) for error in bench.reported] == [OSError]
    await asyncio.gather(*bench.routes._announcing._sealing)
    assert bench.receipts == 1
    bench.routes._keys.quotas = quotas
    assert (await bench.ask(key=key)).status == 200


@pytest.mark.parametrize(
    "upstream",
    [BrokenUpstream(None), BrokenUpstream(JSON_HEAD, b"half an answer")],
    ids=["before the head", "inside a plain answer"],
)
async def test_bug_before_the_answer_is_a_500_with_a_receipt(
    start: Start, upstream: BrokenUpstream
) -> None:
    bench = await start(PLAIN)
    with_upstream(bench, upstream)
    reply = await bench.ask()
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (500, "internal_error")
    assert claims.response.end is End.GATEWAY_FAILURE
    assert SECRET.encode() not in reply.body
    assert [type(error) for error in bench.reported] == [RuntimeError]
    assert bench.receipts == 1
    assert bench.routes._keys.slots.running(bench.sub) == 0


@pytest.mark.parametrize("script", [PLAIN, STREAM], ids=["plain", "stream"])
async def test_bug_after_the_tries_were_recorded_does_not_record_them_again(
    start: Start, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, bugs = Exchange.finish, [RuntimeError(SECRET)]

    def breaking(exchange: Exchange, *args: Any, **options: Any) -> Outcome:
        if bugs:
            raise bugs.pop()
        return finish(exchange, *args, **options)

    monkeypatch.setattr(Exchange, "finish", breaking)
    bench = await start(script)
    claims = await bench.checked(await bench.ask(), QUESTION)
    assert claims.response.end is End.GATEWAY_FAILURE
    assert [attempt.outcome for attempt in claims.attempts] == ["ok"]


@pytest.mark.parametrize("inline", [True, False])
async def test_bug_inside_a_stream_ends_it_with_an_error_event_and_a_receipt(
    start: Start, inline: bool
) -> None:
    bench = await start(STREAM)
    with_upstream(bench, BrokenUpstream(STREAM_HEAD, EVENTS[0]))
    reply = await bench.ask(inline=inline)
    claims = await bench.checked(reply, QUESTION)
    assert reply.ended
    assert reply.body.startswith(EVENTS[0])
    assert b'"code":"internal_error"' in reply.body
    assert SECRET.encode() not in reply.body
    assert claims.response.end is End.GATEWAY_FAILURE
    assert bench.receipts == 1


async def test_plain_answer_whose_receipt_cannot_be_made_durable_is_discarded(
    start: Start,
) -> None:
    disk = BrokenSegments()
    bench = await start(PLAIN, layer=disk)
    disk.broken = True
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (503, "receipt_unavailable")
    assert reply.headers["x-should-retry"] == "false"
    assert "x-receipt" not in reply.headers
    assert len(bench.engine.requests) == 1
    assert bench.receipts == 0


async def test_stream_whose_receipt_cannot_be_made_durable_is_cut_before_its_end(
    start: Start,
) -> None:
    disk = BrokenSegments()
    bench = await start(STREAM, layer=disk)
    disk.broken = True
    reply = await bench.ask()
    assert not reply.ended
    assert reply.body == b"".join(EVENTS)
    assert DONE not in reply.body


async def test_after_the_boot_ended_the_engine_is_not_asked_any_more(start: Start) -> None:
    disk = BrokenSegments()
    bench = await start(PLAIN, layer=disk)
    disk.broken = True
    await bench.ask()
    disk.broken = False
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (503, "notary_unavailable")
    assert reply.headers["retry-after"]
    assert len(bench.engine.requests) == 1


async def test_refusal_whose_receipt_cannot_be_made_durable_says_nothing_else(
    start: Start,
) -> None:
    disk = BrokenSegments()
    bench = await start(PLAIN, layer=disk)
    disk.broken = True
    reply = await bench.ask(b"{")
    assert (reply.status, reply.error()["code"]) == (503, "receipt_unavailable")


async def test_caller_that_left_a_boot_that_ended_breaks_nothing(start: Start) -> None:
    disk = BrokenSegments()
    patient = UpstreamLimits(first_byte_timeout=60)
    bench = await start(Script(close=Close.MUTE), layer=disk, upstream_limits=patient)
    client = await bench.connect()
    client.send(bench.request())
    async with asyncio.timeout(60):
        while not bench.engine.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    disk.broken = True
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    async with asyncio.timeout(60):
        while bench.notary.healthy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert bench.reported == []


class CarelessNotary:
    """A notary that fails in a way its interface does not name."""

    def __init__(self, bench: Bench) -> None:
        self._notary = bench.notary

    def __getattr__(self, name: str) -> object:
        return getattr(self._notary, name)

    async def seal(self, _outcome: object) -> None:
        raise ZeroDivisionError(SECRET)


async def test_notary_that_fails_unforeseen_releases_nothing(start: Start) -> None:
    bench = await start(PLAIN)
    careless = cast("Notary", CarelessNotary(bench))
    bench.routes._parts = replace(bench.routes._parts, notary=careless)
    reply = await bench.ask()
    assert (reply.status, reply.error()["code"]) == (503, "receipt_unavailable")
    assert SECRET.encode() not in reply.body
    assert [type(error) for error in bench.reported] == [ZeroDivisionError]
    # This outcome could not be sealed; the boot goes on, and nobody is told that it ended.
    assert bench.notary.healthy
    assert "no more receipts" not in str(reply.error()["message"])


async def waiting_for_the_engine(start: Start) -> tuple[Bench, Client, str]:
    patient = UpstreamLimits(first_byte_timeout=60)
    bench = await start(Script(close=Close.MUTE), upstream_limits=patient)
    client = await bench.connect()
    client.send(bench.request())
    async with asyncio.timeout(60):
        while not bench.engine.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    found = await bench.notary.find(jti, bench.sub)
    assert found is not None
    assert found.state is ReceiptState.RUNNING
    return bench, client, jti


async def test_request_that_outlasts_the_drain_time_is_answered_and_receipted(
    start: Start,
) -> None:
    bench, client, _ = await waiting_for_the_engine(start)
    stopping = asyncio.ensure_future(bench.server.stop())
    reply = await client.reply()
    await stopping
    claims = await bench.checked(reply, QUESTION)
    assert (reply.status, reply.error()["code"]) == (503, "gateway_stopping")
    assert claims.response.end is End.GATEWAY_FAILURE
    assert claims.decision.code == "allow"
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    assert bench.receipts == 1


async def test_stream_cancelled_while_its_caller_takes_nothing_delivers_what_it_commits_to(
    start: Start,
) -> None:
    piece = b"data: " + b"x" * 60_000 + b"\n\n"
    endless = Script(writes=(piece,) * 400, close=Close.HANG)
    bench = await start(endless, upstream_limits=UpstreamLimits(idle_timeout=60))
    client = await bench.connect()
    client.send(bench.request())
    connections = bench.server._server.server_state.connections
    async with asyncio.timeout(60):
        while not any(one.flow.write_paused for one in connections):  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stopping = asyncio.ensure_future(bench.server.stop())
        while not bench.receipts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        reply = await client.reply()
        await stopping
    claims = await bench.checked(reply, QUESTION)
    assert reply.ended
    assert claims.response.end is End.GATEWAY_FAILURE


async def test_request_still_running_when_the_notary_closes_is_sealed_by_it(start: Start) -> None:
    bench, _, jti = await waiting_for_the_engine(start)
    await bench.notary.close()
    assert bench.receipts == 1
    with pytest.raises(NotaryUnavailable):
        await bench.notary.find(jti, bench.sub)
