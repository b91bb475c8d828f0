"""Group commit: what was submitted while one sync ran becomes durable with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from gateway.errors import NotaryUnavailable

if TYPE_CHECKING:
    from gateway.notary.journal import Journal

S = TypeVar("S")


class GroupCommit(Generic[S]):
    """Appends submitted bytes to a journal in their order and says when they are durable.

    One thread writes and syncs; a batch is everything that waits when the thread is free.  The
    first OSError is final: no later byte is written, no sync is ever repeated (after a failed
    one the kernel may have dropped the pages and would report success), every waiter fails.

    `before_batch` runs when a batch is taken, in the same step as the last submission, and what
    it returns is handed to `after_batch` once that batch is durable.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        before_batch: Callable[[], S],
        after_batch: Callable[[S, int], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._offset = journal.size
        self._before_batch = before_batch
        self._after_batch = after_batch
        self._on_failure = on_failure
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._runner: asyncio.Task[None] | None = None
        self._failed = False
        self._closed = False

    def submit(self, data: bytes) -> tuple[int, asyncio.Future[None]]:
        """Queue bytes; return their offset in the file and a future of their durability.

        The future fails with `NotaryUnavailable` if they cannot become durable.
        """
        if self._failed or self._closed:
            raise NotaryUnavailable("the journal takes nothing any more")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        offset, self._offset = self._offset, self._offset + len(data)
        self._pending.append((data, waiter))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return offset, waiter

    async def close(self) -> None:
        """Make what was submitted durable, then close the journal."""
        if self._closed:
            return
        self._closed = True
        if self._runner is not None:
            await self._runner
        self._thread.shutdown(wait=True)
        self._journal.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, []
            data = b"".join(record for record, _ in batch)
            try:
                state = self._before_batch()
                await loop.run_in_executor(self._thread, self._journal.append, data)
                self._after_batch(state, len(batch))
            except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
                self._fail(batch)
                break
            for _, waiter in batch:
                if not waiter.done():  # its request may have been cancelled meanwhile
                    waiter.set_result(None)
        self._runner = None

    def _fail(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        self._failed = True
        waiting, self._pending = (*batch, *self._pending), []
        try:
            self._on_failure()
        finally:
            # Whatever else goes wrong, nobody may wait for ever.
            for _, waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(NotaryUnavailable("a write of the journal failed"))
