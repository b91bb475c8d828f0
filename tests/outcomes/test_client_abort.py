"""The caller leaves: the engine stops at once, and the receipt says how far it got."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End
from attestation.receipt.commitments import verify_commitment
from gateway.access.principal import subject_of
from gateway.edge.limits import ConnectionLimits
from gateway.edge.protocol import EdgeProtocol
from gateway.engine.scripted import JSON, Close, Script
from gateway.notary.interface import Announcement, ReceiptState
from tests.outcomes.bench import EVENTS, PATIENT, PLAIN, QUESTION, Bench, Client
from tests.outcomes.conftest import Start


async def engine_asked(bench: Bench) -> None:
    async with asyncio.timeout(60):
        while not bench.engine.requests:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.01)


async def ask_and_wait(bench: Bench) -> tuple[Client, str]:
    """Send a request; return once the engine has it, with the receipt id it came under."""
    client = await bench.connect()
    client.send(bench.request())
    await engine_asked(bench)
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    return client, jti


async def test_caller_that_leaves_before_the_first_byte(start: Start) -> None:
    bench = await start(Script(close=Close.MUTE), upstream_limits=PATIENT)
    client, jti = await ask_and_wait(bench)
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    claims = (await bench.sealed(jti)).claims
    assert claims.response.end is End.CLIENT_ABORT
    assert claims.response.status is None
    assert claims.response.length == 0
    assert [attempt.outcome for attempt in claims.attempts] == ["closed"]
    assert bench.receipts == 1


async def test_caller_that_leaves_after_a_large_body_that_came_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    received = EdgeProtocol.data_received

    def whole(protocol: EdgeProtocol, data: bytes) -> None:
        pieces.append(data)
        if sum(map(len, pieces)) == len(request):
            received(protocol, b"".join(pieces))

    # The event loop takes the method when a connection is made.
    monkeypatch.setattr(EdgeProtocol, "data_received", whole)
    bench = await start(Script(close=Close.MUTE), upstream_limits=PATIENT)
    request = bench.request(QUESTION.replace(b"h", b"h" * (3 * HIGH_WATER_LIMIT)))
    client = await bench.connect()
    client.send(request)
    await engine_asked(bench)
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    assert (await bench.sealed(jti)).claims.response.end is End.CLIENT_ABORT


async def test_caller_that_leaves_while_a_plain_answer_is_gathered(start: Start) -> None:
    bench = await start(
        Script(writes=(b'{"a":',), close=Close.HANG, content_type=JSON), upstream_limits=PATIENT
    )
    client, jti = await ask_and_wait(bench)
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    sealed = await bench.sealed(jti)
    assert sealed.claims.response.end is End.CLIENT_ABORT
    assert sealed.claims.response.length == 0
    assert bench.receipts == 1


async def test_caller_that_leaves_mid_stream_is_charged_what_the_transport_took(
    start: Start,
) -> None:
    bench = await start(Script(writes=EVENTS, close=Close.HANG), upstream_limits=PATIENT)
    client, jti = await ask_and_wait(bench)
    await client.head()
    got = b""
    while len(got) < len(b"".join(EVENTS)):
        got += await client.chunk()
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    sealed = await bench.sealed(jti)
    response = sealed.claims.response
    assert response.end is End.CLIENT_ABORT
    assert response.status == 200
    assert response.length == len(got)
    assert response.commitment is not None
    verify_commitment(response.commitment, sealed.openings.keys["res"], Digest.of(got), what="c")
    assert response.block_offset is None
    assert bench.receipts == 1


async def test_caller_that_leaves_inside_its_own_body_is_recorded_as_partial(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await start(PLAIN)
    jtis: list[str] = []
    announce = bench.notary.announce

    def noting(announcement: Announcement) -> None:
        jtis.append(announcement.jti)
        announce(announcement)

    monkeypatch.setattr(bench.notary, "announce", noting)
    client = await bench.connect()
    client.send(bench.request()[:-5])
    async with asyncio.timeout(60):
        while not jtis:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    client.leave()
    claims = (await bench.sealed(jtis[0])).claims
    assert claims.response.end is End.CLIENT_ABORT
    assert claims.request.partial
    assert claims.request.length == len(QUESTION) - 5
    assert claims.decision.code == "undecided"
    assert bench.engine.requests == []
    assert bench.receipts == 1


async def test_caller_that_takes_nothing_is_cut_and_the_engine_with_it(start: Start) -> None:
    event = b"data: " + b"x" * 65536 + b"\n\n"
    bench = await start(
        Script(writes=(event,) * 400, close=Close.HANG),
        upstream_limits=PATIENT,
        connection_limits=ConnectionLimits(stall_seconds=0.3),
    )
    _, jti = await ask_and_wait(bench)
    # The client never reads.  Its socket and ours fill; then nothing moves for the allowed time.
    claims = (await bench.sealed(jti)).claims
    assert claims.response.end is End.CLIENT_ABORT
    assert claims.response.length is not None
    assert 0 < claims.response.length < 400 * len(event)
    assert bench.receipts == 1


async def test_owner_can_fetch_the_receipt_of_an_aborted_request(start: Start) -> None:
    bench = await start(Script(close=Close.MUTE), upstream_limits=PATIENT)
    client, jti = await ask_and_wait(bench)
    running = await bench.notary.find(jti, bench.sub)
    assert running is not None
    assert running.state is ReceiptState.RUNNING
    client.leave()
    await bench.sealed(jti)
    other = bench.new_key()
    assert await bench.notary.find(jti, subject_of(other.encode())) is None


@pytest.mark.parametrize("pipelined", [1, 3])
async def test_caller_with_queued_requests_is_noticed_too(start: Start, pipelined: int) -> None:
    bench = await start(Script(close=Close.MUTE), upstream_limits=PATIENT)
    client = await bench.connect()
    client.send(bench.request() * (1 + pipelined))
    await engine_asked(bench)
    client.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    claims = (await bench.sealed(jti)).claims
    assert claims.response.end is End.CLIENT_ABORT
    # What was queued behind it never began, so it is neither admitted nor receipted.
    assert len(bench.engine.requests) == bench.receipts == 1
