"""The notary behind a real socket: what honest workers get, and what the others do not."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace

import pytest

from attestation.errors import MalformedError, UnavailableError, UsageError
from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import ReceiptState
from gateway.notary.wire.frames import (
    HEADER,
    MAX_TO_NOTARY,
    VERSION,
    Kind,
    encode_frame,
)
from gateway.notary.wire.replies import decode_failure
from gateway.notary.wire.server import WireLimits
from tests.support.notaries import ALICE, BOB, announcement, new_jti, outcome, sealed
from tests.wire.conftest import Serve, Wire, until
from tests.wire.support import announce, end_of, found, seal


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


async def test_outcome_belongs_to_whom_its_request_was_announced_for(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    sealed = await remote.seal(outcome(jti, BOB))
    assert parse_receipt(sealed.token).claims.subject == ALICE
    assert await remote.find(jti, BOB) is None


async def test_another_user_is_not_let_in(serve: Serve) -> None:
    wire = await serve(uid_of=lambda _sock: os.geteuid() + 1)
    with pytest.raises(UnavailableError) as caught:
        await wire.connect()
    assert caught.value.code == "notary_connect"
    assert wire.server.connections == 0


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


async def test_close_waits_until_what_was_left_is_sealed(serve: Serve) -> None:
    wire = await serve()
    remote, jti = await wire.connect(), new_jti()
    remote.announce(announcement(jti))
    await found(remote, jti)
    await remote.close()
    await wire.server.wait_empty()
    assert (await found(wire.notary, jti)).state is not ReceiptState.RUNNING
