"""Group commit: durable in order, everything that waits in one batch, one failure for all."""

from __future__ import annotations

import asyncio
import errno
import threading
from pathlib import Path

import pytest

from gateway.errors import NotaryUnavailable
from gateway.notary.files import FileLayer
from gateway.notary.log.commit import GroupCommit
from gateway.notary.log.segments import Kind, Location, encode_record
from gateway.notary.log.store import LogStore

SEED = bytes(range(32))


class GatedLayer(FileLayer):
    """Syncs wait at a gate while it is closed, and can be made to fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.code = 0
        self.syncs = 0

    def sync_data(self, descriptor: int) -> None:
        self.entered.set()
        self.gate.wait(60)
        self.syncs += 1
        if self.code:
            raise OSError(self.code, "made to fail")
        super().sync_data(descriptor)


class Committed:
    """A group commit and what it said to its callbacks."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.layer = GatedLayer()
        self.store = LogStore.create(self.layer, folder, {}, SEED, 2000)
        self.layer.syncs = 0
        self.layer.entered.clear()
        self.submitted = 0
        self.batches: list[tuple[int, int]] = []
        self.failures = 0
        self.commit = GroupCommit(
            self.store,
            before_batch=lambda: self.submitted,
            after_batch=lambda state, leaves: self.batches.append((state, leaves)),
            on_failure=self._failed,
        )

    def submit(self, text: str, kind: Kind = Kind.RECEIPT) -> asyncio.Future[Location]:
        self.submitted += 1
        return self.commit.submit(encode_record(kind, text.encode()))

    async def syncing(self) -> None:
        """Return when a batch is taken and its sync has begun."""
        await asyncio.to_thread(self.layer.entered.wait, 60)

    def _failed(self) -> None:
        self.failures += 1


@pytest.fixture
def committed(tmp_path: Path) -> Committed:
    return Committed(tmp_path / "d")


async def test_future_is_done_only_after_the_sync(committed: Committed) -> None:
    committed.layer.gate.clear()
    waiter = committed.submit("one")
    done, _ = await asyncio.wait({waiter}, timeout=0.05)
    assert done == set()
    committed.layer.gate.set()
    location = await waiter
    assert committed.store.read(location).payload == b"one"
    await committed.commit.close()


async def test_what_waits_becomes_one_batch_in_order(committed: Committed) -> None:
    committed.layer.gate.clear()
    first = committed.submit("first")
    await committed.syncing()
    rest = [committed.submit(f"{number}") for number in range(50)]
    committed.submit("note", Kind.CHECKPOINT)
    committed.layer.gate.set()
    locations = await asyncio.gather(first, *rest)
    assert locations == sorted(locations)
    assert committed.batches[0] == (1, 1)
    # Everything that waited, with the state of the moment when it was taken; a note is no leaf.
    assert committed.batches[1:] == [(52, 50)]
    await committed.commit.close()


async def test_long_turn_of_the_loop_does_not_keep_the_disk_waiting(committed: Committed) -> None:
    waiters = [committed.submit(f"{number}") for number in range(64)]
    # Nothing was awaited: the loop is still in the turn in which they were submitted.
    assert committed.layer.entered.wait(60)
    waiters += [committed.submit(f"{number}") for number in range(64, 100)]
    locations = await asyncio.gather(*waiters)
    assert locations == sorted(locations)
    assert committed.batches == [(64, 64), (100, 36)]
    await committed.commit.close()


async def test_state_is_noted_before_a_waiter_goes_on(committed: Committed) -> None:
    seen = []

    async def wait() -> None:
        await committed.submit("x")
        seen.append(list(committed.batches))

    await wait()
    assert seen == [[(1, 1)]]
    await committed.commit.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EINTR])
async def test_failure_reaches_every_waiter_once_and_nothing_is_tried_again(
    committed: Committed, code: int
) -> None:
    await committed.submit("released")
    committed.layer.entered.clear()
    committed.layer.gate.clear()
    committed.layer.code = code
    waiters = [committed.submit("lost")]
    await committed.syncing()
    waiters += [committed.submit("waiting") for _ in range(5)]
    syncs = committed.layer.syncs
    committed.layer.gate.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert all(isinstance(result, NotaryUnavailable) for result in results)
    assert committed.failures == 1
    assert committed.layer.syncs == syncs + 1
    assert committed.batches == [(1, 1)]
    with pytest.raises(NotaryUnavailable):
        committed.submit("late")
    await committed.commit.close()
    assert committed.layer.syncs == syncs + 1


async def test_cancelled_waiter_does_not_disturb_the_others(committed: Committed) -> None:
    committed.layer.gate.clear()
    first = committed.submit("first")
    await committed.syncing()
    cancelled, kept = committed.submit("cancelled"), committed.submit("kept")
    cancelled.cancel()
    committed.layer.gate.set()
    await first
    location = await kept
    assert committed.store.read(location).payload == b"kept"
    await committed.commit.close()


async def test_closing_makes_what_was_submitted_durable(committed: Committed) -> None:
    waiters = [committed.submit(f"{number}") for number in range(10)]
    await committed.commit.close()
    assert all(waiter.done() and waiter.exception() is None for waiter in waiters)
    with pytest.raises(NotaryUnavailable):
        committed.submit("late")
    await committed.commit.close()
    assert committed.store.leaves == 10


async def test_failing_callback_is_a_failure_of_the_commit(tmp_path: Path) -> None:
    committed = Committed(tmp_path / "d")

    def broken(_state: int, _leaves: int) -> None:
        raise RuntimeError("a fault of the program")

    failed = []
    commit = GroupCommit(
        committed.store,
        before_batch=lambda: 0,
        after_batch=broken,
        on_failure=lambda: failed.append(True),
    )
    with pytest.raises(NotaryUnavailable):
        await commit.submit(encode_record(Kind.RECEIPT, b"x"))
    assert failed == [True]
    await commit.close()


async def test_nothing_is_written_after_a_failing_callback(committed: Committed) -> None:
    states = iter([0])
    commit = GroupCommit(
        committed.store,
        before_batch=lambda: next(states),
        after_batch=lambda _state, _leaves: None,
        on_failure=committed._failed,
    )
    committed.layer.gate.clear()
    first = commit.submit(encode_record(Kind.RECEIPT, b"first"))
    await committed.syncing()
    second = commit.submit(encode_record(Kind.RECEIPT, b"second"))
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, NotaryUnavailable) for result in results)
    committed.layer.gate.set()
    await commit.close()
    assert committed.failures == 1
    assert committed.store.leaves == 1


async def test_batch_waits_for_those_who_will_join_it_but_not_long(tmp_path: Path) -> None:
    committed = Committed(tmp_path / "d")
    commit = GroupCommit(
        committed.store,
        before_batch=lambda: 0,
        after_batch=lambda _state, leaves: committed.batches.append((0, leaves)),
        on_failure=committed._failed,
        complete=lambda: False,
    )
    # Nobody ever says that all are there: every one of them becomes durable all the same.
    for number in range(5):
        await commit.submit(encode_record(Kind.RECEIPT, b"%d" % number))
    assert committed.batches == [(0, 1)] * 5
    commit.submit(encode_record(Kind.RECEIPT, b"last"))
    await commit.close()
    assert committed.store.leaves == 6


async def test_fault_of_whoever_is_told_fails_the_others(committed: Committed) -> None:
    told: list[Location | None] = []

    def broken(_location: Location | None) -> None:
        raise RuntimeError("a fault of the program")

    record = encode_record(Kind.RECEIPT, b"x")
    committed.commit.put(record, told.append)
    committed.commit.put(record, broken)
    last = committed.commit.submit(record)
    with pytest.raises(NotaryUnavailable):
        await last
    assert [location is None for location in told] == [False]
    assert committed.failures == 1
    await committed.commit.close()
