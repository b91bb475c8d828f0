"""A thread of its own for reads that may take long, so that no other work waits behind them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from attestation.errors import UnavailableError
from gateway.errors import NotaryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING: Final = 64
T = TypeVar("T")


class SlowReader:
    """Runs one blocking read after the other; at most `most` are queued or running."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._free = threading.BoundedSemaphore(most)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="earlier-logs")
        self._closed = False

    async def run(self, read: Callable[[], T]) -> T:
        """Return what `read` returns, or raise what it raises.

        Raises `UnavailableError` (code "busy") if too many wait already, `NotaryUnavailable` if
        it was closed before the read began.  A read whose asker is cancelled goes on if it has
        begun, and keeps its place until it ends.
        """
        self._require_open()
        if not self._free.acquire(blocking=False):
            raise UnavailableError(
                "too many receipts of ended boots are being read", code="busy", hint="try again"
            )
        future = self._thread.submit(self._begin, read)
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more; what is read just now is read to its end."""
        self._closed = True
        self._thread.shutdown(wait=False)

    def _begin(self, read: Callable[[], T]) -> T:
        self._require_open()
        return read()

    def _require_open(self) -> None:
        if self._closed:
            raise NotaryUnavailable("the notary reads no more logs: it is closing")
