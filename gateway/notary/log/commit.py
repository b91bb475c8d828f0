"""Group commit: what was submitted while one sync ran becomes durable with the next one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from gateway.errors import NotaryUnavailable
from gateway.notary.log.segments import Location

if TYPE_CHECKING:
    from gateway.notary.log.store import LogStore

S = TypeVar("S")

Told = Callable[[Location | None], None]
"""Called in the loop, once: where a record is, now that it is durable; None if it never will be."""

_MOST_IN_A_PIECE: Final = 64
"""About 4 ms of signing: at full load the disk works while the rest of a turn is signed."""

_PACE_SECONDS: Final = 0.001
"""From the beginning of a batch to that of the next, unless nobody is left who could join it.  A
batch of one record costs about 150 microseconds of processor time in system calls and changes of
thread; on a disk that syncs in a fraction of a millisecond most would have just one."""


class _Piece(NamedTuple, Generic[S]):
    """What was submitted in one turn of the loop, or a part of it, and the state after it."""

    frames: list[bytes]
    waiters: list[Told]
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

    `complete` says whether everybody who could submit something soon has: a batch then begins at
    once, and otherwise not within a millisecond of the one before it.
    """

    def __init__(
        self,
        store: LogStore,
        *,
        before_batch: Callable[[], S],
        after_batch: Callable[[S, int], None],
        on_failure: Callable[[], None],
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._before_batch = before_batch
        self._after_batch = after_batch
        self._on_failure = on_failure
        self._complete = complete
        self._frames: list[bytes] = []
        self._waiters: list[Told] = []
        self._handed_over: deque[_Piece[S]] = deque()
        self._queue: SimpleQueue[_Piece[S] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pause = threading.Lock()  # held but for an instant, in which the pause ends
        self._pause.acquire()
        self._failed = False
        self._closed = False

    def put(self, frame: bytes, told: Told) -> None:
        """Queue a framed record; `told` hears where it is once it is durable, or None.

        Raises `NotaryUnavailable` if the log takes nothing any more; `told` hears nothing then.
        """
        if self._failed or self._closed:
            raise NotaryUnavailable("the log takes nothing any more")
        self._frames.append(frame)
        self._waiters.append(told)
        if len(self._frames) == 1:
            asyncio.get_running_loop().call_soon(self._hand_over)
        elif len(self._frames) >= _MOST_IN_A_PIECE:
            self._hand_over()

    def submit(self, frame: bytes) -> asyncio.Future[Location]:
        """Queue a framed record; return a future of where it is, done once it is durable.

        The future fails with `NotaryUnavailable` if that cannot be.
        """
        waiter: asyncio.Future[Location] = asyncio.get_running_loop().create_future()

        def told(location: Location | None) -> None:
            if waiter.done():
                return  # whoever asked was cancelled meanwhile
            if location is None:
                waiter.set_exception(NotaryUnavailable("a write of the log failed"))
            else:
                waiter.set_result(location)

        self.put(frame, told)
        return waiter

    async def close(self) -> None:
        """Make what was submitted durable, then close the log's files."""
        if self._closed:
            return
        self._closed = True
        self._hand_over()
        if self._thread is not None:
            self._queue.put(None)
            self._end_pause()
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
        if self._complete():
            self._end_pause()

    def _end_pause(self) -> None:
        # A pause that is not going on yet ends at once when it begins: no harm but a small batch.
        if self._pause.locked():
            self._pause.release()

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        began = 0.0
        while (pieces := self._next(began + _PACE_SECONDS)) and not self._failed:
            began = time.monotonic()
            frames = [frame for piece in pieces for frame in piece.frames]
            try:
                leaves = -self._store.leaves
                locations = self._store.append(frames)
                leaves += self._store.leaves
                loop.call_soon_threadsafe(self._finish, len(pieces), locations, leaves)
            except Exception:  # noqa: BLE001 - whatever it was, nothing of it may count as durable
                self._give_up(loop)
                return

    def _next(self, earliest: float) -> list[_Piece[S]]:
        """Wait for a piece, then until `earliest` unless the pause is ended; return all pieces
        that are there; none once the log is closed.
        """
        pieces: list[_Piece[S]] = []
        while not pieces or not self._queue.empty():
            piece = self._queue.get()
            if piece is None:
                self._queue.put(None)  # for the next call, if there is something to write now
                return pieces
            if not pieces and (pause := earliest - time.monotonic()) > 0:
                self._pause.acquire(timeout=pause)
            pieces.append(piece)
        return pieces

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._fail, ())
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _finish(self, pieces: int, locations: Sequence[Location], leaves: int) -> None:
        if self._failed:
            return
        batch = [self._handed_over.popleft() for _ in range(pieces)]
        waiters = [waiter for piece in batch for waiter in piece.waiters]
        told = 0
        try:
            self._after_batch(batch[-1].state, leaves)
            for waiter, location in zip(waiters, locations, strict=True):
                told += 1
                waiter(location)
        except Exception:  # noqa: BLE001 - whatever it was, nothing more may count as durable
            self._fail(waiters[told:])

    def _fail(self, first: Sequence[Told]) -> None:
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
                with suppress(Exception):
                    waiter(None)
