"""The notary behind a real socket: what honest workers get, and what the others do not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Found, Notary, ReceiptState
from gateway.notary.wire import messages, replies
from gateway.notary.wire.client import LOST, RemoteNotary
from gateway.notary.wire.frames import (
    HEADER,
    MAX_TO_NOTARY,
    TO_NOTARY,
    VERSION,
    FrameReader,
    Kind,
    encode_frame,
)
from gateway.notary.wire.replies import Condition, decode_failure, encode_hello
from gateway.notary.wire.server import WireLimits
from gateway.notary.wire.socket import MAX_PATH_BYTES, bind_notary_socket
from tests.support.notaries import ALICE, BOB, announcement, new_jti, outcome, sealed
from tests.wire.conftest import Serve, Wire, until


def announce(jti: str) -> bytes:
    return encode_frame(Kind.ANNOUNCE, 0, messages.encode_announcement(announcement(jti)))


def seal(jti: str, request: int = 1) -> bytes:
    return encode_frame(Kind.SEAL, request, messages.encode_outcome(outcome(jti)))


async def found(notary: Notary, jti: str) -> Found:
    one = await notary.find(jti, ALICE)
    assert one is not None
    return one


async def end_of(notary: Notary, jti: str) -> End:
    """How the receipt says its request ended; waits while it runs."""
    async with asyncio.timeout(30):
        while (one := await found(notary, jti)).state is ReceiptState.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert one.token is not None
    return parse_receipt(one.token).claims.response.end


async def test_remote_notary_shows_the_boot_of_the_local_one(serve: Serve) -> None:
    wire = await serve()
    remote = await wire.connect()
    assert remote.boot.evidence == wire.notary.boot.evidence
    assert remote.boot.collateral == wire.notary.boot.collateral
    assert remote.boot.anchor == wire.notary.boot.anchor
    assert remote.boot.keyset_digest == wire.notary.boot.keyset_digest
    assert remote.boot.log_origin == wire.notary.boot.log_origin
    assert (remote.healthy, remote.reason) == (True, "")


async def test_receipt_of_one_worker_is_found_by_its_owner_through_another(serve: Serve) -> None:
    wire = await serve()
    one, other = await wire.connect(), await wire.connect()
    receipt = await sealed(one)
    again = await found(other, f"chatcmpl-{receipt.jti}")
    assert (again.token, again.openings) == (receipt.token, replace(receipt.openings))
    assert await other.find(receipt.jti, BOB) is None
    assert await other.find("no id at all", ALICE) is None


async def test_workers_share_one_sequence_without_a_hole(serve: Serve) -> None:
    wire = await serve()
    workers = [await wire.connect() for _ in range(4)]
    receipts = await asyncio.gather(*(sealed(workers[n % 4]) for n in range(200)))
    assert sorted(receipt.index for receipt in receipts) == list(range(1, 201))
    admissions = {parse_receipt(receipt.token).claims.log.admission for receipt in receipts}
    assert admissions == set(range(200))


async def test_log_epoch_metrics_and_challenge_come_through(serve: Serve) -> None:
    wire = await serve()
    remote = await wire.connect()
    receipt = await sealed(remote)
    anchored = await remote.find(receipt.jti, ALICE, wait_seconds=30)
    assert anchored is not None
    assert anchored.state is ReceiptState.ANCHORED
    assert anchored == await wire.notary.find(receipt.jti, ALICE)
    assert await remote.epoch(None) == await wire.notary.epoch(None)
    assert await remote.epoch(99) is None
    assert await remote.epoch(-1) is None
    checkpoint = await remote.read_log("checkpoint")
    assert checkpoint is not None
    assert checkpoint.startswith(wire.notary.boot.log_origin.encode())
    assert await remote.read_log("tile/9/999") is None
    assert await remote.read_log("../boot.json\n") is None
    remote.count_unauthenticated()
    remote.count_unreceipted()
    remote.count_unreceipted()
    text = (await remote.metrics_text()).decode()
    assert "attested_unauthenticated_total 1.0" in text
    assert "attested_refused_unreceipted_total 2.0" in text
    challenge = await remote.challenge(bytes(32))
    assert (challenge.index, challenge.count) == (0, 1)
    with pytest.raises(UsageError):
        await remote.challenge(bytes(31))


async def test_announcement_is_with_the_kernel_before_anything_else_can_happen(
    serve: Serve,
) -> None:
    wire = await serve()
    ours, theirs = socket.socketpair()
    hello = replies.decode_hello(encode_hello(wire.notary.boot, Condition(healthy=True, reason="")))
    ours.setblocking(False)
    theirs.setblocking(False)
    remote = RemoteNotary(ours, hello)
    said = announcement(new_jti())
    remote.announce(said)
    # Nothing was awaited: the event loop has not turned.
    (frame,) = FrameReader(TO_NOTARY, max_payload=MAX_TO_NOTARY).feed(theirs.recv(1 << 16))
    assert messages.decode_announcement(frame.payload) == said
    with pytest.raises(ValueError, match="twice"):
        remote.announce(said)
    await remote.close()
    theirs.close()


async def test_announcement_that_the_kernel_does_not_take_yet_holds_its_request_up(
    serve: Serve,
) -> None:
    wire = await serve()
    ours, theirs = socket.socketpair()
    hello = replies.decode_hello(encode_hello(wire.notary.boot, Condition(healthy=True, reason="")))
    ours.setblocking(False)
    theirs.setblocking(False)
    remote = RemoteNotary(ours, hello)
    await remote.handed_over()
    filler = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filler += ours.send(bytes(4096))
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
    wire = await serve()
    ours, theirs = socket.socketpair()
    hello = replies.decode_hello(encode_hello(wire.notary.boot, Condition(healthy=True, reason="")))
    ours.setblocking(False)
    remote = RemoteNotary(ours, hello)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(bytes(4096))
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
    wire = await serve()
    ours, theirs = socket.socketpair()
    hello = replies.decode_hello(encode_hello(wire.notary.boot, Condition(healthy=True, reason="")))
    ours.setblocking(False)
    remote = RemoteNotary(ours, hello)
    theirs.close()
    assert remote.healthy
    with pytest.raises(NotaryUnavailable):
        remote.announce(announcement(new_jti()))
    assert remote.reason == LOST


async def test_lost_connection_leaves_gateway_failures_and_nothing_else(serve: Serve) -> None:
    wire = await serve()
    dying, other = await wire.connect(), await wire.connect()
    left = [new_jti() for _ in range(20)]
    for jti in left:
        dying.announce(announcement(jti))
    kept = new_jti()
    other.announce(announcement(kept))
    done = await sealed(dying)
    await dying.close()
    assert [await end_of(other, jti) for jti in left] == [End.GATEWAY_FAILURE] * 20
    assert await end_of(other, done.jti) is End.COMPLETE
    assert (await found(other, kept)).state is ReceiptState.RUNNING
    assert (await other.seal(outcome(kept))).jti == kept


async def test_outcome_sent_with_the_last_breath_is_what_gets_sealed(serve: Serve) -> None:
    wire = await serve()
    jti, peer, other = new_jti(), await wire.raw(), await wire.connect()
    peer.send(announce(jti) + seal(jti))
    peer.close()
    await until(lambda: wire.server.connections == 1)
    assert await end_of(other, jti) is End.COMPLETE


BROKEN = {
    "garbage": (b"GET / HTTP/1.1\r\n\r\n", "frame_version"),
    "other-version": (HEADER.pack(0, VERSION + 1, Kind.METRICS, 1), "frame_version"),
    "unknown-kind": (HEADER.pack(0, VERSION, 77, 1), "frame_kind"),
    "a-kind-of-the-notary": (encode_frame(Kind.SEALED, 1, b"[]"), "frame_kind"),
    "too-large": (HEADER.pack(MAX_TO_NOTARY + 1, VERSION, Kind.SEAL, 1), "frame_size"),
    "malformed-announcement": (encode_frame(Kind.ANNOUNCE, 0, b"[1]"), "message"),
    "malformed-outcome": (encode_frame(Kind.SEAL, 1, b"{}"), "message"),
    "no-request-number": (encode_frame(Kind.METRICS, 0, b""), "message"),
    "number-without-reply": (encode_frame(Kind.COUNT, 1, b"[0,0]"), "message"),
    "never-announced": (seal("0" * 32), "message"),
    "metrics-of-something": (encode_frame(Kind.METRICS, 1, b"[]"), "message"),
    "announced-twice": (announce("1" * 32) * 2, "message"),
    "number-in-use": (
        encode_frame(Kind.FIND, 1, b'["%b","%b",0]' % (b"2" * 32, b"0" * 64)) * 2,
        "message",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_peer_that_breaks_the_protocol_is_told_and_loses_only_itself(
    serve: Serve, case: str
) -> None:
    data, code = BROKEN[case]
    wire = await serve()
    other, peer = await wire.connect(), await wire.raw()
    held, running = new_jti(), new_jti()
    other.announce(announcement(held))
    peer.send(announce(running) + data)
    last = (await peer.rest())[-1]
    assert (last.kind, last.request) == (Kind.FAILED, 0)
    error = decode_failure(last.payload)
    assert isinstance(error, MalformedError)
    assert error.code == code
    assert error.expected
    assert await end_of(other, running) is End.GATEWAY_FAILURE
    assert (await other.seal(outcome(held))).jti == held
    assert other.healthy


@pytest.mark.parametrize("cut", [1, 9, 10, 60])
async def test_half_a_frame_changes_nothing(serve: Serve, cut: int) -> None:
    wire = await serve()
    peer, other, jti = await wire.raw(), await wire.connect(), new_jti()
    peer.send(announce(jti)[:cut])
    peer.close()
    await until(lambda: wire.server.connections == 1)
    assert await other.find(jti, ALICE) is None
    await sealed(other)


async def test_request_of_another_connection_cannot_be_sealed(serve: Serve) -> None:
    wire = await serve()
    owner, thief, jti = await wire.connect(), await wire.raw(), new_jti()
    owner.announce(announcement(jti))
    await found(owner, jti)
    thief.send(seal(jti))
    assert (await thief.rest())[-1].kind is Kind.FAILED
    assert (await found(owner, jti)).state is ReceiptState.RUNNING
    assert (await owner.seal(outcome(jti))).jti == jti


async def test_request_of_another_connection_cannot_be_announced_again(serve: Serve) -> None:
    wire = await serve()
    owner, thief, jti = await wire.connect(), await wire.raw(), new_jti()
    owner.announce(announcement(jti))
    await found(owner, jti)
    thief.send(announce(jti))
    assert (await thief.rest())[-1].kind is Kind.FAILED
    assert (await owner.seal(outcome(jti))).jti == jti


async def test_id_of_a_durable_receipt_announced_again_ends_that_connection_only(
    serve: Serve,
) -> None:
    wire = await serve()
    other, peer = await wire.connect(), await wire.raw()
    receipt, held = await sealed(other), new_jti()
    other.announce(announcement(held))
    peer.send(announce(receipt.jti) + seal(receipt.jti))
    last = (await peer.rest())[-1]
    assert (last.kind, last.request) == (Kind.FAILED, 0)
    assert (await found(other, receipt.jti)).token == receipt.token
    assert (await other.seal(outcome(held))).jti == held


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


async def test_request_is_sealed_once(serve: Serve) -> None:
    wire = await serve()
    peer, jti = await wire.raw(), new_jti()
    peer.send(announce(jti) + seal(jti, 1) + seal(jti, 2))
    # The second one is an offence; the first was taken all the same.
    assert (await peer.rest())[-1].kind is Kind.FAILED
    assert await end_of(await wire.connect(), jti) is End.COMPLETE


async def test_outcome_that_makes_no_receipt_costs_its_own_answer_only(serve: Serve) -> None:
    wire = await serve()
    remote, jti, other = await wire.connect(), new_jti(), new_jti()
    remote.announce(announcement(jti))
    remote.announce(announcement(other))
    with pytest.raises(NotaryUnavailable):
        await remote.seal(outcome(jti, decision="not a code"))
    assert await end_of(remote, jti) is End.GATEWAY_FAILURE
    assert (await remote.seal(outcome(other))).jti == other


async def test_outcome_that_contradicts_its_announcement_is_a_gateway_failure(
    serve: Serve,
) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    with pytest.raises(NotaryUnavailable):
        await remote.seal(outcome(jti, BOB))
    assert await end_of(remote, jti) is End.GATEWAY_FAILURE


async def test_another_user_is_not_let_in(serve: Serve) -> None:
    wire = await serve(uid_of=lambda _sock: os.geteuid() + 1)
    with pytest.raises(UnavailableError) as caught:
        await wire.connect()
    assert caught.value.code == "notary_connect"
    assert wire.server.connections == 0


async def test_notary_of_another_user_is_not_believed(serve: Serve) -> None:
    wire = await serve()
    with pytest.raises(UnavailableError):
        await RemoteNotary.connect(wire.path, uid=os.geteuid() + 1)


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
    done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_EXCEPTION)
    await until(lambda: sum(task.done() for task in asked) == 5)
    for task in done:
        error = task.exception()
        assert isinstance(error, UnavailableError)
        assert error.code == "busy"
    await remote.seal(outcome(jti))
    answers = await asyncio.gather(*(task for task in waiting if task not in done))
    assert sum(answer is not None for answer in answers if isinstance(answer, Found)) >= 3


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
    await until(lambda: len(connection._waits) == 3)
    assert (await found(remote, jti)).state is ReceiptState.RUNNING
    assert await remote.read_log("checkpoint") is not None
    assert len((await remote.challenge(bytes(32))).quote) > 0
    # A wait that has ended makes room for the next.
    await remote.seal(outcome(jti))
    await remote.seal(outcome(other, BOB))
    await asyncio.gather(*asked, waits, return_exceptions=True)
    await until(lambda: not connection._waits)
    assert not connection._waits._counts
    assert await remote.find(jti, ALICE, wait_seconds=30) is not None


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
    assert (len(connection._waits), connection._waits._counts) == (0, {})
    peer.send(ask)
    await peer.frame(Kind.DATA)


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


async def let_go(wire: Wire, how: str) -> list[str]:
    """Send announcements that the notary does not come to read, and lose the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, str(wire.path))
        await until(lambda: wire.server.connections == 1)
        (connection,) = wire.server._connections
        connection.pause_writing()
        jtis = [new_jti() for _ in range(20)]
        peer.send(b"".join(map(announce, jtis)) + seal(jtis[0]) + announce(new_jti())[:30])
        if how == "peer dies":
            peer.close()
        if how == "server ends":
            await wire.server.close()
        if how == "limit":
            connection._require_transport().abort()
        await until(lambda: wire.server.connections == 0)
    return jtis


@pytest.mark.parametrize("how", ["stall", "peer dies", "limit", "server ends"])
async def test_announcements_that_were_not_read_yet_get_their_numbers_and_receipts(
    serve: Serve, how: str
) -> None:
    wire = await serve(limits=WireLimits(stall_seconds=0.05))
    jtis = await let_go(wire, how)
    ends = [await end_of(wire.notary, jti) for jti in jtis]
    assert ends == [End.GATEWAY_FAILURE] * 20


async def test_nothing_is_read_after_what_broke_the_protocol(serve: Serve) -> None:
    wire = await serve(limits=WireLimits(stall_seconds=0.05))
    peer, jti = await wire.raw(), new_jti()
    (connection,) = wire.server._connections
    connection.pause_writing()
    peer.send(b"no frame at all" + announce(jti))
    await until(lambda: wire.server.connections == 0)
    assert await wire.notary.find(jti, ALICE) is None


async def test_end_of_the_boot_is_told_to_everyone(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    told = asyncio.Event()
    remote.watch(told.set)
    remote.announce(announcement(jti))
    wire.notary._lifetime.end("log_failed")
    wire.server.notify()
    async with asyncio.timeout(30):
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


async def test_close_waits_until_what_was_left_is_sealed(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    await found(remote, jti)
    await remote.close()
    await wire.server.wait_empty()
    assert (await found(wire.notary, jti)).state is not ReceiptState.RUNNING


def test_socket_lies_in_a_folder_of_its_own_user(tmp_path: Path) -> None:
    path = tmp_path / "run" / "notary.sock"
    with bind_notary_socket(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        # It is served, so nobody else may take its place.
        with pytest.raises(UsageError) as caught:
            bind_notary_socket(path)
        assert caught.value.code == "notary_socket"
    # What a killed process left behind is replaced.
    bind_notary_socket(path).close()


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError) as caught:
        bind_notary_socket(tmp_path / "notary.sock")
    assert (caught.value.expected, caught.value.observed) == ("a folder with mode 0700", "0755")


@pytest.mark.parametrize("name", ["n" * MAX_PATH_BYTES, "absent/further/n.sock"])
def test_path_that_cannot_hold_a_socket_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        bind_notary_socket(tmp_path / name)
    assert "notary.socket" in caught.value.hint


def test_file_in_its_place_is_not_removed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "notary.sock"
    path.write_text(json.dumps("keep"))
    with pytest.raises(UsageError):
        bind_notary_socket(path)
    assert path.exists()
