"""Slow reads: one at a time, a bounded number of them, and never in anybody else's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from attestation.errors import UnavailableError
from gateway.errors import NotaryUnavailable
from gateway.notary.log.reader import SlowReader

PATIENCE = 60.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the latest at the end of the test, so that no thread is left waiting."""
    gate = threading.Event()
    yield gate
    gate.set()


async def refused(reader: SlowReader) -> bool:
    """Whether there is no place for one more read."""
    (seen,) = await asyncio.gather(reader.run(lambda: None), return_exceptions=True)
    assert seen is None or (isinstance(seen, UnavailableError) and seen.code == "busy")
    return seen is not None


async def test_read_beyond_the_bound_is_refused_until_one_has_ended(gate: threading.Event) -> None:
    reader = SlowReader(2)
    reads = [asyncio.create_task(reader.run(lambda: gate.wait(PATIENCE))) for _ in range(2)]
    await asyncio.sleep(0)
    assert await refused(reader)
    gate.set()
    assert await asyncio.gather(*reads) == [True, True]
    assert not await refused(reader)
    reader.close()


async def test_begun_read_keeps_its_place_when_nobody_waits_for_it(gate: threading.Event) -> None:
    reader, begun = SlowReader(1), threading.Event()

    def read() -> None:
        begun.set()
        gate.wait(PATIENCE)

    task = asyncio.create_task(reader.run(read))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await refused(reader)
    gate.set()
    async with asyncio.timeout(PATIENCE):
        while await refused(reader):  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0.005)
    reader.close()


async def test_slow_read_does_not_hold_up_what_other_threads_do(gate: threading.Event) -> None:
    reader = SlowReader(64)
    reads = [asyncio.create_task(reader.run(lambda: gate.wait(PATIENCE))) for _ in range(64)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.to_thread(lambda: "read") == "read"
    assert not any(read.done() for read in reads)
    gate.set()
    await asyncio.gather(*reads)
    reader.close()


async def test_failure_of_a_read_is_its_askers(gate: threading.Event) -> None:
    reader = SlowReader(1)

    def fail() -> None:
        raise UnavailableError("gone", code="log_retired")

    with pytest.raises(UnavailableError) as failure:
        await reader.run(fail)
    assert failure.value.code == "log_retired"
    gate.set()
    assert await reader.run(lambda: 1) == 1
    reader.close()


async def test_end_of_the_reader_is_told_to_everyone_who_waits(gate: threading.Event) -> None:
    reader, begun = SlowReader(3), threading.Event()

    def read() -> str:
        begun.set()
        gate.wait(PATIENCE)
        return "read"

    reads = [asyncio.create_task(reader.run(read)) for _ in range(3)]
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    reader.close()
    gate.set()
    first, *others = await asyncio.gather(*reads, return_exceptions=True)
    assert first == "read"
    assert [type(one) for one in others] == [NotaryUnavailable] * 2
    with pytest.raises(NotaryUnavailable):
        await reader.run(read)
