"""Group commit: what was submitted while one sync ran becomes durable with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from gateway.errors import NotaryUnavailable
from gateway.notary.log.segments import Location, is_leaf

if TYPE_CHECKING:
    from gateway.notary.log.store import LogStore

S = TypeVar("S")


class GroupCommit(Generic[S]):
    """Appends submitted records to the log in their order and says when they are durable.

    One thread writes and syncs; a batch is everything that waits when the thread is free.  The
    first failure is final: no later byte is written, no sync is ever repeated (after a failed
    one the kernel may have dropped the pages and would report success), every waiter fails.

    `before_batch` runs when a batch is taken, in the same step as the last submission, and what
    it returns is handed to `after_batch`, with the number of leaves in the batch, once that
    batch is durable and before anybody who waits for it goes on.
    """

    def __init__(
        self,
        store: LogStore,
        *,
        before_batch: Callable[[], S],
        after_batch: Callable[[S, int], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._store = store
        self._before_batch = before_batch
        self._after_batch = after_batch
        self._on_failure = on_failure
        self._frames: list[bytes] = []
        self._waiters: list[asyncio.Future[Location]] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-commit")
        self._runner: asyncio.Task[None] | None = None
        self._failed = False
        self._closed = False

    def submit(self, frame: bytes) -> asyncio.Future[Location]:
        """Queue a framed record; return a future of where it is, done once it is durable.

        The future fails with `NotaryUnavailable` if that cannot be.
        """
        if self._failed or self._closed:
            raise NotaryUnavailable("the log takes nothing any more")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Location] = loop.create_future()
        self._frames.append(frame)
        self._waiters.append(waiter)
        if self._runner is None:
            self._runner = loop.create_task(self._run())
        return waiter

    async def close(self) -> None:
        """Make what was submitted durable, then close the log's files."""
        if self._closed:
            return
        self._closed = True
        if self._runner is not None:
            await self._runner
        self._thread.shutdown(wait=True)
        self._store.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._frames:
            frames, self._frames = self._frames, []
            waiters, self._waiters = self._waiters, []
            try:
                state = self._before_batch()
                locations = await loop.run_in_executor(self._thread, self._store.append, frames)
                self._after_batch(state, sum(map(is_leaf, frames)))
            except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
                self._fail(waiters)
                break
            for waiter, location in zip(waiters, locations, strict=True):
                if not waiter.done():  # its request may have been cancelled meanwhile
                    waiter.set_result(location)
        self._runner = None

    def _fail(self, batch: list[asyncio.Future[Location]]) -> None:
        self._failed = True
        waiting, self._waiters, self._frames = (*batch, *self._waiters), [], []
        try:
            self._on_failure()
        finally:
            # Whatever else goes wrong, nobody may wait for ever.
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(NotaryUnavailable("a write of the log failed"))
