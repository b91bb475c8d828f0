"""Every file-system call of the notary fails once: nothing is released, nothing retried."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.errors import UnavailableError
from attestation.receipt.signing import parse_receipt
from gateway.attester.base import open_provider
from gateway.errors import NotaryUnavailable
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits, NotaryParts
from tests.support.logs import only_boot, segments_of, tokens_of
from tests.support.notaries import ALICE, announcement, new_jti, notary_parts, outcome, sealed


class FaultyLayer(FileLayer):
    """The real calls, counted; `fault` names one and the error it gives from then on.

    Only calls on paths that contain `where` count and fail.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.where = ""
        self.fault: tuple[str, int] | None = None
        self.partial = 0
        self.gate: threading.Event | None = None
        self._paths: dict[int, Path] = {}

    def make_folder(self, path: Path) -> None:
        self._note("make_folder", path)
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._note("create", path)
        descriptor = super().create(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        path = self._paths[descriptor]
        if self.fault is not None and self.fault[0] == "write" and self.partial:
            # What a full disk does: it takes a part, and the next call fails.
            taken, self.partial = super().write(descriptor, data[: self.partial]), 0
            return taken
        self._note("write", path)
        return super().write(descriptor, data)

    def sync_data(self, descriptor: int) -> None:
        path = self._paths[descriptor]
        if self.gate is not None and self.where in str(path):
            self.gate.wait(60)
        self._note("sync_data", path)
        super().sync_data(descriptor)

    def sync_folder(self, path: Path) -> None:
        self._note("sync_folder", path)
        super().sync_folder(path)

    def _note(self, call: str, path: Path) -> None:
        if self.where not in str(path):
            return
        self.calls.append(call)
        if self.fault is not None and self.fault[0] == call:
            raise OSError(self.fault[1], os.strerror(self.fault[1]))


@pytest.fixture
def layer() -> FaultyLayer:
    return FaultyLayer()


@pytest.fixture
def parts(tmp_path: Path, layer: FaultyLayer) -> NotaryParts:
    """Parts of a notary that has nothing quoted: only what is asked for is written."""
    provider = open_provider("simulated:?failure_rate=1")
    limits = NotaryLimits(closing_seconds=0.0)
    return notary_parts(tmp_path, layer=layer, provider=provider, limits=limits)


async def started(parts: NotaryParts, layer: FaultyLayer) -> LocalNotary:
    """A notary of which the calls on segments are looked at from now on."""
    notary = await LocalNotary.start(parts)
    layer.where = "/segments"
    return notary


def tokens_on_disk(parts: NotaryParts) -> list[str]:
    return tokens_of(only_boot(parts.data_dir))


@pytest.mark.parametrize("call", ["make_folder", "create", "write", "sync_data", "sync_folder"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
async def test_boot_does_not_start_when_a_call_fails(
    parts: NotaryParts, layer: FaultyLayer, call: str, code: int
) -> None:
    layer.fault = (call, code)
    with pytest.raises(UnavailableError):
        await LocalNotary.start(parts)


@pytest.mark.parametrize(
    ("call", "code"),
    [("sync_data", errno.EIO), ("write", errno.ENOSPC), ("write", errno.EIO)],
)
async def test_failed_commit_ends_the_boot_and_releases_nothing(
    parts: NotaryParts, layer: FaultyLayer, call: str, code: int
) -> None:
    ended: list[str] = []
    notary = await started(replace(parts, on_end=ended.append), layer)
    released = await sealed(notary)
    waiting = [new_jti() for _ in range(5)]
    for jti in waiting:
        notary.announce(announcement(jti))
    layer.fault = (call, code)
    results = await asyncio.gather(
        *(notary.seal(outcome(jti)) for jti in waiting), return_exceptions=True
    )
    assert all(isinstance(result, NotaryUnavailable) for result in results)
    assert (notary.healthy, notary.reason, ended) == (False, "log_failed", ["log_failed"])
    with pytest.raises(NotaryUnavailable):
        notary.announce(announcement(new_jti()))
    with pytest.raises(NotaryUnavailable):
        await notary.find(released.jti, ALICE)
    await notary.close()
    assert released.token in tokens_on_disk(parts)


async def test_failed_sync_is_never_repeated_and_nothing_is_written_after_it(
    parts: NotaryParts, layer: FaultyLayer
) -> None:
    notary = await started(parts, layer)
    jti, late = new_jti(), new_jti()
    notary.announce(announcement(jti))
    notary.announce(announcement(late))
    layer.fault = ("sync_data", errno.EIO)
    with pytest.raises(NotaryUnavailable):
        await notary.seal(outcome(jti))
    layer.fault = None
    calls = len(layer.calls)
    with pytest.raises(NotaryUnavailable):
        await notary.seal(outcome(late))
    await notary.close()
    assert layer.calls[calls:] == []


async def test_disk_that_fills_in_the_middle_of_a_record_leaves_a_torn_tail_only(
    parts: NotaryParts, layer: FaultyLayer
) -> None:
    notary = await started(parts, layer)
    first = await sealed(notary)
    layer.fault, layer.partial = ("write", errno.ENOSPC), 100
    with pytest.raises(NotaryUnavailable):
        await sealed(notary)
    await notary.close()
    assert tokens_on_disk(parts) == [first.token]


async def test_receipts_sealed_together_share_syncs(parts: NotaryParts, layer: FaultyLayer) -> None:
    notary = await started(parts, layer)
    before = layer.calls.count("sync_data")
    layer.gate = threading.Event()
    tasks = [asyncio.create_task(sealed(notary)) for _ in range(100)]
    for _ in range(5):
        await asyncio.sleep(0)
    layer.gate.set()
    receipts = await asyncio.gather(*tasks)
    # Two batches at best; when a note of the log comes between them is not decided here.
    assert layer.calls.count("sync_data") - before <= 10
    assert sorted(receipt.index for receipt in receipts) == list(range(1, 101))
    await notary.close()


async def test_receipt_is_neither_returned_nor_found_before_it_is_durable(
    parts: NotaryParts, layer: FaultyLayer
) -> None:
    notary = await started(parts, layer)
    layer.gate = threading.Event()
    jti = new_jti()
    notary.announce(announcement(jti))
    task = asyncio.create_task(notary.seal(outcome(jti)))
    for _ in range(5):
        await asyncio.sleep(0)
    found = await notary.find(jti, ALICE)
    assert found is not None
    assert found.token is None
    assert not task.done()
    layer.gate.set()
    receipt = await task
    found = await notary.find(jti, ALICE)
    assert found is not None
    assert found.token == receipt.token
    await notary.close()


async def test_receipts_on_disk_before_the_failure_stay_readable_by_anyone(
    parts: NotaryParts, layer: FaultyLayer
) -> None:
    notary = await started(parts, layer)
    receipts = [await sealed(notary) for _ in range(3)]
    layer.fault = ("sync_data", errno.EIO)
    with pytest.raises(NotaryUnavailable):
        await sealed(notary)
    await notary.close()
    tokens = tokens_on_disk(parts)
    assert tokens[:3] == [receipt.token for receipt in receipts]
    assert all(parse_receipt(token) for token in tokens)


async def test_damaged_record_is_reported_and_not_served(
    parts: NotaryParts, layer: FaultyLayer
) -> None:
    notary = await started(parts, layer)
    receipt = await sealed(notary)
    (path,) = segments_of(only_boot(parts.data_dir))
    data = bytearray(path.read_bytes())
    data[data.index(receipt.token.encode()) + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnavailableError) as refusal:
        await notary.find(receipt.jti, ALICE)
    assert refusal.value.code == "log_unreadable"
    await notary.close()


async def test_failure_after_the_index_is_taken_ends_the_boot(
    parts: NotaryParts, layer: FaultyLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    notary = await started(parts, layer)
    jti = new_jti()
    notary.announce(announcement(jti))

    def broken(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(notary._ledger._tasks, "note", broken)
    with pytest.raises(NotaryUnavailable):
        await notary.seal(outcome(jti))
    assert notary.reason == "sequence_failed"
    await notary.close()
