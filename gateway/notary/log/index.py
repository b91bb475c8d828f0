"""Where the receipts of all boots are: found by id at once, kept in a file that can be rebuilt.

The running boot adds rows as its receipts become durable; a thread writes them to sqlite in
batches, without waiting for the disk.  At the start the same thread reads what is missing from
the segments of earlier boots, and everything if the file cannot be used.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import UnavailableError
from gateway.notary.log.catchup import CatchUp, insert_rows
from gateway.notary.log.database import (
    IndexDatabase,
    IndexedEpoch,
    IndexedReceipt,
    Position,
    remove_database,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gateway.notary.files import FileLayer

_FLUSH_SECONDS = 2.0
_RETRY_SECONDS = 5.0
_ROWS_AT_ONCE = 20_000

T = TypeVar("T")


class ReceiptIndex:
    """The index of one data folder, for the one notary that runs over it.

    `add` and `get` belong to the thread that sequences receipts and do not wait for the disk.
    """

    def __init__(
        self,
        layer: FileLayer,
        data_dir: Path,
        path: Path,
        running: str,
        on_event: Callable[[str], None] = lambda _event: None,
    ) -> None:
        """Describe the index at `path` of the boots in `data_dir`, of which `running` runs.

        `on_event` is told, in the thread, that the file had to be rebuilt ("index_rebuilt") or
        cannot be written ("index_failed"); receipts are then found only while they are in memory.
        """
        self._layer = layer
        self._data_dir = data_dir
        self._path = path
        self._running = running
        self._on_event = on_event
        self._recent: dict[bytes, IndexedReceipt] = {}
        self._pending: list[IndexedReceipt | IndexedEpoch] = []
        self._wake = threading.Condition()
        self._reading = threading.Lock()
        self._reader: IndexDatabase | None = None
        self._closing = False
        self._complete = False
        self._damaged = False
        self._written: Position | None = None
        self._jobs: list[Callable[[IndexDatabase], None]] = []
        self._thread = threading.Thread(target=self._run, name="log-index", daemon=True)

    @property
    def complete(self) -> bool:
        """Whether every receipt on disk can be found, the time of earlier boots included."""
        return self._complete

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, row: IndexedReceipt) -> None:
        """Add a durable receipt of the running boot; rows come in the order of the log."""
        self._recent[row.jti] = row
        self._pending.append(row)

    def add_epoch(self, row: IndexedEpoch) -> None:
        """Add a durable epoch of the running boot, in its place among the receipts."""
        self._pending.append(row)

    def get(self, jti: bytes) -> IndexedReceipt | None:
        """Return where the receipt with this id (16 bytes) is, or None if there is none.

        Raises `UnavailableError` (code "index_incomplete") if it is not found while earlier
        boots are still being read, or if the index cannot be read.
        """
        recent = self._recent.get(jti)
        if recent is not None:
            return recent
        complete = self._complete  # before looking: it may become so while this looks in vain
        row = self._look_up(lambda database: database.receipt(jti))
        # Between the two looks its row may have moved from memory to the file.
        row = row or self._recent.get(jti)
        if row is None and not complete:
            raise _incomplete()
        return row

    def epochs_covering(self, boot: str, leaf: int, most: int = 4) -> list[tuple[int, int]]:
        """Return segment and offset of the first epochs of an ended boot that cover a leaf.

        Raises `UnavailableError` as `get`.
        """
        complete = self._complete
        found = self._look_up(lambda database: database.epochs_covering(boot, leaf, most))
        if not found and not complete:
            raise _incomplete()
        return found or []

    def forget_boot(self, boot: str) -> None:
        """Remove, in the thread, the rows of a boot whose folder is gone."""
        self._enqueue(lambda database: database.forget_boot(boot))

    def forget_segments(self, boot: str, below: int) -> None:
        """Remove, in the thread, the rows that point into deleted segments of a boot."""
        self._enqueue(lambda database: database.forget_segments(boot, below))

    def close(self) -> None:
        """Write what is in memory to the file and end the thread.  Blocks."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _enqueue(self, job: Callable[[IndexDatabase], None]) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    def _look_up(self, ask: Callable[[IndexDatabase], T]) -> T | None:
        with self._reading:
            if self._reader is None:
                return None
            try:
                return ask(self._reader)
            except sqlite3.Error as error:
                self._damaged = self._damaged or not isinstance(error, sqlite3.OperationalError)
                raise _incomplete() from error

    def _run(self) -> None:
        while not self._finished():
            try:
                self._serve()
            except (sqlite3.OperationalError, OSError):
                # A full or failing disk, or a lock: nothing says that the file is wrong.
                self._on_event("index_failed")
                with self._wake:
                    self._wake.wait_for(lambda: self._closing, _RETRY_SECONDS)
                if self._closing:
                    return
            except sqlite3.DatabaseError:
                self._on_event("index_rebuilt")
                self._discard()

    def _finished(self) -> bool:
        return self._closing and not self._pending and not self._jobs

    def _serve(self) -> None:
        self._complete = self._damaged = False
        database = IndexDatabase(self._path, create=True)
        try:
            with self._reading:
                self._reader = IndexDatabase(self._path, create=False)
            database.require_intact()
            self._catch_up(database)
            while not self._finished():
                with self._wake:
                    self._wake.wait_for(lambda: self._closing or self._jobs, _FLUSH_SECONDS)
                self._do_jobs(database)
                self._flush(database)
                if self._damaged:
                    raise sqlite3.DatabaseError("a look-up found the index damaged")
        finally:
            self._complete = False
            self._drop_reader()
            database.close()

    def _catch_up(self, database: IndexDatabase) -> None:
        steps = CatchUp(self._layer, self._data_dir, database, self._running, self._written)
        for _ in steps.steps():
            self._flush(database)
            if self._closing:
                return
        if steps.unread:
            self._on_event("index_failed")
        self._complete = not steps.unread

    def _flush(self, database: IndexDatabase) -> None:
        while count := min(len(self._pending), _ROWS_AT_ONCE):
            rows = self._pending[:count]
            self._written = insert_rows(database, self._running, rows) or self._written
            # The other thread only ever appends.
            del self._pending[:count]
            for row in rows:
                if isinstance(row, IndexedReceipt):
                    self._recent.pop(row.jti, None)

    def _do_jobs(self, database: IndexDatabase) -> None:
        while self._jobs:
            self._jobs[0](database)
            del self._jobs[0]

    def _discard(self) -> None:
        try:
            remove_database(self._path)
        except OSError:
            self._on_event("index_failed")
            with self._wake:
                self._wake.wait_for(lambda: self._closing, _RETRY_SECONDS)

    def _drop_reader(self) -> None:
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None


def leaves_seen(path: Path) -> dict[str, int]:
    """Return how many leaves the index at `path` saw in each boot's log, by folder name.

    Nothing if there is no index or it cannot be read: what it says is a hint, never the truth.
    """
    try:
        if not path.exists():
            return {}
        database = IndexDatabase(path, create=False)
    except (OSError, sqlite3.Error):
        return {}
    try:
        return database.leaves_seen()
    except sqlite3.Error:
        return {}
    finally:
        database.close()


def _incomplete() -> UnavailableError:
    return UnavailableError(
        "the index of receipts is being rebuilt",
        code="index_incomplete",
        hint="ask again in a while",
    )
