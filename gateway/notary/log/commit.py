"""Group commit: what was submitted while one sync ran becomes durable with the next one."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from gateway.errors import NotaryUnavailable
from gateway.notary.log.segments import Location, is_leaf

if TYPE_CHECKING:
    from gateway.notary.log.store import LogStore

S = TypeVar("S")

_MOST_IN_A_PIECE: Final = 64
"""About 5 ms of signing: at full load the disk works while the rest of a turn is signed."""


class _Piece(NamedTuple, Generic[S]):
    """What was submitted in one turn of the loop, or a part of it, and the state after it."""

    frames: list[bytes]
    waiters: list[asyncio.Future[Location]]
    state: S


class GroupCommit(Generic[S]):
    """Appends submitted records to the log in their order and says when they are durable.

    One thread writes and syncs.  What is submitted in one turn of the event loop is handed to it
    in one piece, or several if it is much; a batch is all the pieces that wait when the thread
    is free, so the disk never waits for the loop.  The first failure is final: no later byte is
    written, no sync is ever repeated (after a failed one the kernel may have dropped the pages
    and would report success), every waiter fails.

    `before_batch` runs when a piece is handed over, in the same step as its last submission, and
    what it returned for the last piece of a batch is given to `after_batch`, with the number of
    leaves in the batch, once that batch is durable and before anybody who waits for it goes on.
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
        self._handed_over: deque[_Piece[S]] = deque()
        self._queue: SimpleQueue[_Piece[S] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
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
        if len(self._frames) == 1:
            loop.call_soon(self._hand_over)
        elif len(self._frames) >= _MOST_IN_A_PIECE:
            self._hand_over()
        return waiter

    async def close(self) -> None:
        """Make what was submitted durable, then close the log's files."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        if self._thread is not None:
            self._queue.put(None)
            # Whoever waits for a record hears of it first: those calls were made before.
            await asyncio.to_thread(self._thread.join)
        self._store.close()

    def _hand_over(self) -> None:
        if not self._frames:
            return
        frames, self._frames = self._frames, []
        waiters, self._waiters = self._waiters, []
        try:
            piece = _Piece(frames, waiters, self._before_batch())
        except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
            self._fail(waiters)
            return
        self._handed_over.append(piece)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._write,
                args=(asyncio.get_running_loop(),),
                name="log-commit",
                daemon=True,
            )
            self._thread.start()
        self._queue.put(piece)

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        while (pieces := self._next()) and not self._failed:
            frames = [frame for piece in pieces for frame in piece.frames]
            try:
                locations = self._store.append(frames)
                loop.call_soon_threadsafe(self._finish, len(pieces), locations)
            except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
                self._give_up(loop)
                return

    def _next(self) -> list[_Piece[S]]:
        """Wait for a piece and return all that are there; none once the log is closed."""
        pieces: list[_Piece[S]] = []
        while not pieces or not self._queue.empty():
            piece = self._queue.get()
            if piece is None:
                self._queue.put(None)  # for the next call, if there is something to write now
                return pieces
            pieces.append(piece)
        return pieces

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._fail, ())
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _finish(self, pieces: int, locations: Sequence[Location]) -> None:
        if self._failed:
            return
        batch = [self._handed_over.popleft() for _ in range(pieces)]
        waiters = [waiter for piece in batch for waiter in piece.waiters]
        try:
            leaves = sum(is_leaf(frame) for piece in batch for frame in piece.frames)
            self._after_batch(batch[-1].state, leaves)
        except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
            self._fail(waiters)
            return
        for waiter, location in zip(waiters, locations, strict=True):
            if not waiter.done():  # its request may have been cancelled meanwhile
                waiter.set_result(location)

    def _fail(self, first: Sequence[asyncio.Future[Location]]) -> None:
        self._failed = True
        waiting = [*first, *(one for piece in self._handed_over for one in piece.waiters)]
        waiting += self._waiters
        self._handed_over.clear()
        self._frames, self._waiters = [], []
        try:
            self._on_failure()
        finally:
            # Whatever else goes wrong, nobody may wait for ever.
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(NotaryUnavailable("a write of the log failed"))
