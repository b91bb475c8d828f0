"""Bounds of the notary's socket: floods are told off, and nobody else pays for them."""

from __future__ import annotations

import asyncio

import pytest

from attestation.errors import UnavailableError
from attestation.receipt.claims import End
from gateway.notary.interface import Found, ReceiptState
from gateway.notary.wire import messages
from gateway.notary.wire.frames import (
    Kind,
    encode_frame,
)
from gateway.notary.wire.server import WireLimits
from tests.support.notaries import ALICE, BOB, announcement, new_jti, outcome, sealed
from tests.wire.conftest import Serve, until
from tests.wire.support import announce, end_of, found


async def test_counts_of_any_size_arrive_whole(serve: Serve) -> None:
    wire = await serve()
    remote = await wire.connect()
    remote.count_unauthenticated(2 * messages.MAX_COUNT + 1)
    remote.count_unreceipted(3)
    await until(lambda: wire.notary._ledger.unauthenticated == 2 * messages.MAX_COUNT + 1)
    assert wire.notary._ledger.unreceipted == 3
    assert remote.healthy


async def test_count_frame_costs_one_step_whatever_it_says(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await serve()
    steps: list[int] = []
    monkeypatch.setattr(wire.notary, "count_unauthenticated", steps.append)
    monkeypatch.setattr(wire.notary, "count_unreceipted", steps.append)
    peer = await wire.raw()
    peer.send(encode_frame(Kind.COUNT, 0, messages.encode_count(messages.MAX_COUNT, 5)))
    await until(lambda: len(steps) == 2)
    assert steps == [messages.MAX_COUNT, 5]


async def test_more_connections_than_allowed_are_refused(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(connections=2))
    one, _ = await wire.connect(), await wire.connect()
    with pytest.raises(UnavailableError):
        await wire.connect()
    await sealed(one)
    await one.close()
    await until(lambda: wire.server.connections == 1)
    await sealed(await wire.connect())


async def test_flood_of_announcements_ends_its_connection(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(announced=10))
    peer, other = await wire.raw(), await wire.connect()
    jtis = [new_jti() for _ in range(11)]
    peer.send(b"".join(announce(jti) for jti in jtis))
    assert (await peer.rest())[-1].kind is Kind.FAILED
    assert [await end_of(other, jti) for jti in jtis[:10]] == [End.GATEWAY_FAILURE] * 10
    assert await other.find(jtis[10], ALICE) is None


@pytest.mark.parametrize("limits", [WireLimits(waits=3), WireLimits(owner_waits=3)])
async def test_flood_of_waits_is_told_to_come_later_and_receipts_go_on(
    serve: Serve, limits: WireLimits
) -> None:
    wire = await serve(limits=limits)
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    asked = [asyncio.create_task(remote.find(jti, ALICE, wait_seconds=30)) for _ in range(8)]
    await until(lambda: sum(task.done() for task in asked) == 5)
    await remote.seal(outcome(jti))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, UnavailableError)]
    assert [one.code for one in refused] == ["busy"] * 5
    assert sum(isinstance(one, Found) for one in answers) == 3


async def test_one_owner_that_waits_a_lot_keeps_nobody_else_from_asking(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(questions=1, owner_waits=2))
    remote, jti, other = await wire.connect(), new_jti(), new_jti()
    remote.announce(announcement(jti))
    remote.announce(announcement(other, BOB))
    asked = [asyncio.create_task(remote.find(jti, ALICE, wait_seconds=30)) for _ in range(5)]
    await until(lambda: sum(task.done() for task in asked) == 3)
    # Another owner waits, and everybody reads, as if the first one were not there.
    waits = asyncio.create_task(remote.find(other, BOB, wait_seconds=30))
    (connection,) = wire.server._connections
    await until(lambda: len(connection._questions.waits) == 3)
    assert (await found(remote, jti)).state is ReceiptState.RUNNING
    assert await remote.read_log("checkpoint") is not None
    assert len((await remote.challenge(bytes(32))).quote) > 0
    # A wait that has ended makes room for the next.
    await remote.seal(outcome(jti))
    await remote.seal(outcome(other, BOB))
    await asyncio.gather(*asked, waits, return_exceptions=True)
    await until(lambda: not connection._questions.waits)
    assert not connection._questions.waits._counts
    assert await remote.find(jti, ALICE, wait_seconds=30) is not None


async def test_flood_of_other_questions_is_told_to_come_later(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(questions=2))
    remote = await wire.connect()
    answers = await asyncio.gather(
        *(remote.read_log("checkpoint") for _ in range(6)), return_exceptions=True
    )
    refused = [one for one in answers if isinstance(one, UnavailableError)]
    assert {one.code for one in refused} == {"busy"}
    assert len(refused) + sum(isinstance(one, bytes) for one in answers) == 6
    assert 1 <= len(refused) <= 4


async def test_peer_that_takes_nothing_is_dropped(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(stall_seconds=0.05, questions=100_000))
    reader, writer = await asyncio.open_unix_connection(wire.path, limit=1)
    other = await wire.connect()
    for request in range(1, 20_000):
        writer.write(encode_frame(Kind.METRICS, request, b""))
    await until(lambda: wire.server.connections == 1)
    await sealed(other)
    writer.close()
    assert reader is not None
