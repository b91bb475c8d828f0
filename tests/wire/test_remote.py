"""A worker's side of the socket: what is handed over, waited for, dropped and lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from attestation.lineage.context import LineageContext
from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.errors import NotaryUnavailable
from gateway.notary.wire import announcements, messages, replies
from gateway.notary.wire.client import RemoteNotary
from gateway.notary.wire.frames import (
    MAX_TO_NOTARY,
    TO_NOTARY,
    FrameReader,
    Kind,
    encode_frame,
)
from gateway.notary.wire.link import LOST
from gateway.notary.wire.replies import Condition, encode_hello
from gateway.notary.wire.server import WireLimits
from tests.support.notaries import ALICE, BOB, announcement, new_jti, outcome, sealed
from tests.wire.conftest import Serve, until
from tests.wire.support import announce, end_of


async def paired(serve: Serve) -> tuple[RemoteNotary, socket.socket, socket.socket]:
    """A notary's client on a socket whose other end nobody serves; both do not block."""
    wire = await serve()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    hello = replies.decode_hello(encode_hello(wire.notary.boot, Condition(healthy=True, reason="")))
    return RemoteNotary(ours, hello), ours, theirs


def fill(sock: socket.socket) -> int:
    """Send until the kernel takes nothing more; gives how many bytes that were."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(4096))
    return sent


async def test_announcement_is_with_the_kernel_before_anything_else_can_happen(
    serve: Serve,
) -> None:
    remote, _ours, theirs = await paired(serve)
    said = [announcement(new_jti()) for _ in range(3)]
    for one in said:
        remote.announce(one)
    assert remote.hand_over()
    # Nothing was awaited: the event loop has not turned.
    frames = FrameReader(TO_NOTARY, max_payload=MAX_TO_NOTARY).feed(theirs.recv(1 << 16))
    assert [announcements.decode_announcement(frame.payload) for frame in frames] == said
    with pytest.raises(ValueError, match="twice"):
        remote.announce(said[0])
    await remote.close()
    theirs.close()


async def test_announcement_that_the_kernel_does_not_take_yet_holds_its_request_up(
    serve: Serve,
) -> None:
    remote, ours, theirs = await paired(serve)
    await remote.handed_over()
    filler = fill(ours)
    said = announcement(new_jti())
    remote.announce(said)
    first = asyncio.create_task(remote.handed_over())
    asking = asyncio.create_task(remote.metrics_text())
    await asyncio.sleep(0)
    await until(lambda: bool(remote._handing))
    assert not first.done()
    while filler:
        filler -= len(theirs.recv(min(filler, 1 << 16)))
    # The kernel takes it now, and what was sent after it.
    await first
    await until(lambda: not remote._backlog)
    reader = FrameReader(TO_NOTARY, max_payload=MAX_TO_NOTARY)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            data += theirs.recv(1 << 16)
    assert [frame.kind for frame in reader.feed(data)] == [Kind.ANNOUNCE, Kind.METRICS]
    asking.cancel()
    await remote.close()
    theirs.close()


async def test_request_that_waits_to_be_announced_is_refused_when_the_notary_dies(
    serve: Serve,
) -> None:
    remote, ours, theirs = await paired(serve)
    fill(ours)
    remote.announce(announcement(new_jti()))
    waiting = asyncio.create_task(remote.handed_over())
    await until(lambda: bool(remote._handing))
    theirs.close()
    with pytest.raises(NotaryUnavailable):
        await waiting
    with pytest.raises(NotaryUnavailable):
        await remote.handed_over()
    await remote.close()


async def test_announcement_to_a_notary_that_has_just_gone_is_refused(serve: Serve) -> None:
    remote, _ours, theirs = await paired(serve)
    theirs.close()
    assert remote.healthy
    remote.announce(announcement(new_jti()))
    with pytest.raises(NotaryUnavailable):
        remote.hand_over()
    assert remote.reason == LOST


async def test_notary_of_another_user_is_not_believed(serve: Serve) -> None:
    wire = await serve()
    with pytest.raises(UnavailableError):
        await RemoteNotary.connect(wire.path, uid=os.geteuid() + 1)


async def test_question_that_is_dropped_before_it_began_leaves_nothing_behind(
    serve: Serve,
) -> None:
    wire = await serve(limits=WireLimits(questions=1, owner_waits=1))
    peer, jti = await wire.raw(), new_jti()
    search = messages.Search(jti=jti, sub=ALICE, wait_milliseconds=30_000)
    find = encode_frame(Kind.FIND, 1, messages.encode_search(search))
    ask = encode_frame(Kind.METRICS, 2, b"")
    drop = [encode_frame(Kind.CANCEL, number, b"") for number in (1, 2)]
    peer.send(announce(jti) + (find + drop[0] + ask + drop[1]))
    (connection,) = wire.server._connections
    await until(lambda: jti in connection._announced)
    await until(lambda: not connection._questions)
    assert (len(connection._questions.waits), connection._questions.waits._counts) == (0, {})
    peer.send(ask)
    await peer.frame(Kind.DATA)


async def test_question_that_nobody_waits_for_any_more_is_dropped(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    asking = asyncio.create_task(remote.find(jti, ALICE, wait_seconds=30))
    (connection,) = wire.server._connections
    await until(lambda: len(connection._questions) == 1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not connection._questions)
    await remote.seal(outcome(jti))


async def test_cancelled_seal_still_makes_its_receipt(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    sealing = asyncio.create_task(remote.seal(outcome(jti)))
    await asyncio.sleep(0)
    sealing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sealing
    assert await end_of(remote, jti) is End.COMPLETE


async def test_repeat_that_one_worker_gets_names_the_attempt_that_another_had(
    serve: Serve,
) -> None:
    wire = await serve()
    one, other = await wire.connect(), await wire.connect()
    first = await sealed(one, end=End.REFUSED, status=429, decision="concurrency")
    hint = LineageContext(txn="task", span="0" * 16, repeated=True)
    foreign = await sealed(other, BOB, lineage=hint)
    equal = await sealed(other, lineage=replace(hint, repeated=False))
    repeat = await sealed(other, lineage=hint)
    lines = [parse_receipt(made.token).claims.lineage for made in (foreign, equal, repeat)]
    assert [line.retry_of for line in lines] == [None, None, first.digest]


async def test_end_of_the_boot_is_told_to_everyone(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    told = asyncio.Event()
    remote.watch(told.set)
    remote.announce(announcement(jti))
    wire.notary._lifetime.end("log_failed")
    wire.server.notify()
    async with asyncio.timeout(60):
        await told.wait()
    assert (remote.healthy, remote.reason) == (False, "log_failed")
    with pytest.raises(NotaryUnavailable):
        remote.announce(announcement(new_jti()))
    with pytest.raises(NotaryUnavailable):
        await remote.seal(outcome(jti))
    with pytest.raises(NotaryUnavailable):
        await remote.find(jti, ALICE)


async def test_notary_that_is_gone_fails_every_waiter_for_ever(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    asking = asyncio.create_task(remote.find(jti, ALICE, wait_seconds=30))
    (connection,) = wire.server._connections
    await until(lambda: len(connection._questions) == 1)
    await wire.server.close()
    with pytest.raises(NotaryUnavailable):
        await asking
    await until(lambda: not remote.healthy)
    assert remote.reason == LOST
    for ask in (
        remote.metrics_text(),
        remote.epoch(None),
        remote.epoch(-1),
        remote.find("", ALICE),
    ):
        with pytest.raises(NotaryUnavailable):
            await ask
    with pytest.raises(NotaryUnavailable):
        await remote.seal(outcome(jti))
    with pytest.raises(NotaryUnavailable):
        remote.announce(announcement(new_jti()))
    remote.count_unauthenticated()
    assert await end_of(wire.notary, jti) is End.GATEWAY_FAILURE


@pytest.mark.parametrize("answer", [b"garbage, a lot of it", encode_frame(Kind.SEALED, 1, b"[]")])
async def test_notary_that_does_not_speak_the_protocol_is_given_up(
    serve: Serve, answer: bytes, tmp_path: Path
) -> None:
    wire = await serve()
    hello = encode_hello(wire.notary.boot, Condition(healthy=True, reason=""))

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_frame(Kind.HELLO, 0, hello))
        await reader.read(1)
        writer.write(answer)
        writer.close()

    path = tmp_path / "other.sock"
    async with await asyncio.start_unix_server(impostor, path) as server:
        remote = await RemoteNotary.connect(path)
        with pytest.raises(NotaryUnavailable):
            await sealed(remote)
        await until(lambda: not remote.healthy)
        server.close()


async def test_absent_notary_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        await RemoteNotary.connect(tmp_path / "absent.sock")
    assert caught.value.code == "notary_connect"
