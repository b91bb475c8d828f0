"""From segments to index rows: what an index lacks about the boots in a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from gateway.notary.log.database import IndexedEpoch, IndexedReceipt, Position
from gateway.notary.log.folder import BOOT_FOLDER
from gateway.notary.log.leaves import leaf_digest, parse_epoch_payload, parse_receipt_payload
from gateway.notary.log.scan import BootSegments, PlacedLeaf
from gateway.notary.log.segments import Kind, Location

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer
    from gateway.notary.log.database import IndexDatabase

_ROWS_AT_ONCE = 20_000


def boot_names(layer: FileLayer, data_dir: Path) -> list[str]:
    """Return the names in the data folder that are those of boot folders.  Raises OSError."""
    return sorted(
        name
        for name in layer.list_folder(data_dir)
        if BOOT_FOLDER.fullmatch(name) and layer.state(data_dir / name).is_folder
    )


def row_of(boot: str, leaf: PlacedLeaf) -> IndexedReceipt | IndexedEpoch | None:
    """Return the row of a leaf, None for a boot statement.  Raises `MalformedError`."""
    location, payload = leaf.location, leaf.record.payload
    if leaf.record.kind is Kind.RECEIPT:
        receipt = parse_receipt_payload(payload)
        return IndexedReceipt(
            jti=receipt.jti,
            boot=boot,
            segment=location.segment,
            offset=location.offset,
            leaf=leaf.index,
            sub=receipt.sub.value,
            digest=receipt.digest.value,
        )
    if leaf.record.kind is Kind.EPOCH:
        statement = parse_epoch_payload(payload).statement
        return IndexedEpoch(
            boot=boot,
            size=statement.size,
            number=statement.epoch,
            segment=location.segment,
            offset=location.offset,
            leaf=leaf.index,
            digest=statement.digest.value,
        )
    return None


class CatchUp:
    """One pass over the boot folders.  Raises `sqlite3.Error`, and OSError for the data folder.

    A boot that breaks off is indexed as far as it can be read: the survey says why.  `unread`
    says that the disk failed under one, so that an id that is not found may exist.
    """

    def __init__(
        self,
        layer: FileLayer,
        data_dir: Path,
        database: IndexDatabase,
        running: str,
        written: Position | None,
    ) -> None:
        """Describe the pass; of the boot `running` it reads no further than `written`."""
        self._layer = layer
        self._data_dir = data_dir
        self._database = database
        self._running = running
        self._written = written
        self.unread = False

    def steps(self) -> Iterator[None]:
        """Do it, in steps of a few thousand rows."""
        names = boot_names(self._layer, self._data_dir)
        for gone in set(self._database.boots()) - {*names, self._running}:
            self._database.forget_boot(gone)
        for name in names:
            until = self._written if name == self._running else None
            if name == self._running and until is None:
                continue
            yield from self._boot(name, until)

    def _boot(self, name: str, until: Position | None) -> Iterator[None]:
        segments = BootSegments(self._layer, self._data_dir / name)
        rows: list[IndexedReceipt | IndexedEpoch] = []
        try:
            numbers = segments.numbers()
            if not numbers or segments.header(numbers[0]).bootseed.hex()[:16] != name:
                return
            start, index = self._start(name, segments)
            for leaf in segments.leaves(start, index):
                row = row_of(name, leaf)
                if row is not None:
                    rows.append(row)
                if len(rows) >= _ROWS_AT_ONCE:
                    self._insert(name, rows)
                    rows = []
                    yield
                if until is not None and leaf.index >= until.leaf:
                    break
        except OSError:
            # The disk failed: what follows may well be there.
            self.unread = True
        except MalformedError:
            # What follows cannot be read; what came before is found.
            pass
        self._insert(name, rows)
        yield

    def _start(self, name: str, segments: BootSegments) -> tuple[Location | None, int]:
        position = self._database.position(name)
        if position is None:
            return None, 0
        location = Location(position.segment, position.offset)
        try:
            if leaf_digest(segments.record(location)).value == position.digest:
                return location, position.leaf
        except (OSError, MalformedError):
            pass
        # The index knows another log than this one, a longer one perhaps.
        self._database.forget_rows(name)
        return None, 0

    def _insert(self, name: str, rows: list[IndexedReceipt | IndexedEpoch]) -> None:
        insert_rows(self._database, name, rows)


def insert_rows(
    database: IndexDatabase, boot: str, rows: list[IndexedReceipt | IndexedEpoch]
) -> Position | None:
    """Insert rows of one boot, in the order of its log; return the position of the last.

    Raises `sqlite3.Error`.
    """
    if not rows:
        return None
    last = rows[-1]
    position = Position(
        segment=last.segment, offset=last.offset, leaf=last.leaf, digest=last.digest
    )
    database.insert(
        boot,
        [row for row in rows if isinstance(row, IndexedReceipt)],
        [row for row in rows if isinstance(row, IndexedEpoch)],
        position,
    )
    return position
