"""Checkpoints: over durable leaves only, in time, one for each size, shown once durable."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, parse_vkey, verify_note, vkey_for
from gateway.errors import NotaryUnavailable
from gateway.notary.checkpointer import Checkpointer, SignedCheckpoint
from gateway.notary.counts import Mark
from gateway.notary.log.segments import Location
from tests.support.clocks import FakeTime

ORIGIN = "gw.test/0000000000000000"


class Bench:
    """A checkpointer over a head that a test sets; `kept` are the futures of its notes."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.time = FakeTime()
        self.size = 1
        self.kept: list[asyncio.Future[Location]] = []
        self.published: list[SignedCheckpoint] = []
        self.ended = False
        self.key = Ed25519PrivateKey.generate()
        self.checkpointer = Checkpointer(
            ORIGIN,
            self.key,
            head=lambda: Mark(size=self.size, peaks=(self._root,), receipts=0),
            keep=self._keep,
            publish=self.published.append,
            seconds=seconds,
            clock=self.time.clock,
        )

    @property
    def _root(self) -> bytes:
        return Digest.of(b"%d" % self.size).value

    @property
    def sizes(self) -> list[int]:
        return [signed.checkpoint.size for signed in self.published]

    def grow(self, leaves: int = 1) -> None:
        self.size += leaves
        self.checkpointer.notice()

    def _keep(self, _note: str) -> asyncio.Future[Location]:
        if self.ended:
            raise NotaryUnavailable("the log takes nothing")
        future: asyncio.Future[Location] = asyncio.get_running_loop().create_future()
        self.kept.append(future)
        return future

    async def sync(self) -> None:
        for future in self.kept:
            if not future.done():
                future.set_result(Location(0, 0))
        await self.time.advance(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_grown_log_is_signed_within_the_second(bench: Bench) -> None:
    bench.grow()
    await bench.time.advance(0.99)
    await bench.sync()
    assert bench.sizes == [2]


async def test_leaves_of_one_second_share_a_checkpoint(bench: Bench) -> None:
    for _ in range(7):
        bench.grow()
        await bench.time.advance(0.1)
    await bench.time.advance(0.2)
    await bench.sync()
    assert bench.sizes == [8]


async def test_checkpoint_is_not_shown_before_it_is_durable(bench: Bench) -> None:
    bench.grow()
    await bench.time.advance(5)
    assert bench.sizes == []
    await bench.sync()
    assert bench.sizes == [2]


async def test_log_that_grew_while_a_checkpoint_was_written_is_signed_again(bench: Bench) -> None:
    bench.grow()
    await bench.time.advance(1)
    bench.grow()
    await bench.time.advance(1)
    await bench.sync()
    await bench.time.advance(1)
    await bench.sync()
    assert bench.sizes == [2, 3]


async def test_log_that_does_not_grow_is_signed_once(bench: Bench) -> None:
    bench.grow()
    await bench.time.advance(1)
    await bench.sync()
    for _ in range(5):
        bench.checkpointer.notice()
        await bench.time.advance(10)
    assert bench.sizes == [2]
    assert len(bench.kept) == 1


async def test_one_size_has_one_checkpoint_whoever_asks(bench: Bench) -> None:
    first = bench.checkpointer.sign()
    assert bench.checkpointer.sign() is first
    bench.size += 1
    assert bench.checkpointer.sign().checkpoint.size == 2
    assert len(bench.kept) == 2


async def test_note_is_a_checkpoint_signed_under_the_origin(bench: Bench) -> None:
    signed = bench.checkpointer.sign()
    note = parse_note(signed.note)
    vkey = parse_vkey(vkey_for(ORIGIN, bench.key.public_key().public_bytes_raw()))
    assert verify_note(note, [vkey]) == (vkey,)
    assert parse_checkpoint(note.text) == signed.checkpoint


async def test_note_that_could_not_be_written_is_never_shown(bench: Bench) -> None:
    bench.grow()
    await bench.time.advance(1)
    bench.kept[0].set_exception(NotaryUnavailable("a write failed"))
    await bench.time.advance(0)
    assert bench.sizes == []


async def test_log_that_has_ended_is_signed_no_more(bench: Bench) -> None:
    bench.ended = True
    bench.grow()
    await bench.time.advance(10)
    assert bench.sizes == []
    with pytest.raises(NotaryUnavailable):
        bench.checkpointer.sign()


async def test_closed_checkpointer_signs_nothing_by_itself(bench: Bench) -> None:
    bench.grow()
    bench.checkpointer.close()
    await bench.time.advance(10)
    assert bench.kept == []
