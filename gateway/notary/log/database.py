"""The sqlite file behind the receipt index: where receipts and epochs are, nothing of content.

It is never the truth: every row can be made again from the segments, and whoever uses a row
checks it against the record that it points at.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2
_BOOTS = (
    "CREATE TABLE boots (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, segment INTEGER,"
    " offset INTEGER, leaf INTEGER, digest BLOB, most INTEGER NOT NULL DEFAULT 0)"
)
_EPOCHS = (
    "CREATE TABLE epochs (boot INTEGER NOT NULL, size INTEGER NOT NULL, number INTEGER NOT NULL,"
    " segment INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (boot, size)) WITHOUT ROWID"
)
_RECEIPTS = (
    "CREATE TABLE receipts (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, jti BLOB NOT NULL,"
    " segment INTEGER NOT NULL, offset INTEGER NOT NULL, sub BLOB NOT NULL, digest BLOB NOT NULL,"
    " mark BLOB NOT NULL)"
)
# Ids are random: an index over all of one would rewrite most of itself with every batch, and
# one over its first 8 bytes is a seventh of the size.
_BY_KEY = "CREATE INDEX receipts_by_key ON receipts (key)"
_TABLES = [_BOOTS, _EPOCHS, _RECEIPTS, _BY_KEY]
_LEAF_BITS = 40
_LEAVES = 1 << _LEAF_BITS

_DELETE_RECEIPTS = "DELETE FROM receipts WHERE id >= ? AND id < ?"
_ROWS_A_STATEMENT = 250
_INSERT_RECEIPT = "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RECEIPT_TYPES = (bytes, str, int, int, int, bytes, bytes, bytes)
_INSERT_RECEIPTS = _INSERT_RECEIPT + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (_ROWS_A_STATEMENT - 1)


class IndexedReceipt(NamedTuple):
    """Where a receipt is: its boot's folder, segment, offset and leaf; owner and digest.

    `mark` is what its boot knows its own rows by; rows made from segments have none.
    """

    jti: bytes
    boot: str
    segment: int
    offset: int
    leaf: int
    sub: bytes
    digest: bytes
    mark: bytes = b""


class IndexedEpoch(NamedTuple):
    """Where an epoch is, its number, the size of the tree it covers, its leaf and digest."""

    boot: str
    size: int
    number: int
    segment: int
    offset: int
    leaf: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last leaf of a boot that is indexed, with everything before it."""

    segment: int
    offset: int
    leaf: int
    digest: bytes


class IndexDatabase:
    """One connection.  Methods raise `sqlite3.Error`; use it from one thread at a time."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open the file; with `create` an empty one gets its tables.

        Raises `sqlite3.DatabaseError` for what is no index of this version, or no plain file.
        """
        _require_no_link(path)
        if create:
            # What sqlite makes beside it gets the same mode.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(path, flags, 0o600))
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._prepare(create=create)
        except sqlite3.Error:
            self._connection.close()
            raise
        self._ids: dict[str, int] = {}

    def _prepare(self, *, create: bool) -> None:
        # A power loss must not tear it: rows may be lost, because they can be made again.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA cache_size = -16384")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and create:
            with _Transaction(self._connection):
                for table in _TABLES:
                    self._connection.execute(table)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            version = SCHEMA_VERSION
        tables = self._connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
        if version != SCHEMA_VERSION or [sql for (sql,) in tables] != _TABLES:
            raise sqlite3.DatabaseError("no index of this version")

    def require_intact(self) -> None:
        """Raise `sqlite3.DatabaseError` if pages of the file are damaged.  Reads all of it."""
        (answer,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError("the index is damaged")

    def receipt(self, jti: bytes) -> IndexedReceipt | None:
        """Return where a receipt is."""
        row = self._connection.execute(
            "SELECT r.jti, b.name, r.segment, r.offset, r.id & ?, r.sub, r.digest, r.mark"
            " FROM receipts r JOIN boots b ON b.id = r.id >> ? WHERE r.key = ? AND r.jti = ?",
            (_LEAVES - 1, _LEAF_BITS, _key(jti), jti),
        ).fetchone()
        if row is None:
            return None
        # A column takes values of any type, and the file is not this process's alone.
        if tuple(map(type, row)) != _RECEIPT_TYPES:
            raise sqlite3.DatabaseError("a row of the index is none")
        return IndexedReceipt(*row)

    def epochs_covering(self, boot: str, leaf: int, most: int) -> list[tuple[int, int]]:
        """Return segment and offset of the first `most` epochs of a boot that cover the leaf."""
        return self._connection.execute(
            "SELECT CAST(e.segment AS INTEGER), CAST(e.offset AS INTEGER)"
            " FROM epochs e JOIN boots b ON b.id = e.boot"
            " WHERE b.name = ? AND e.size > ? ORDER BY e.size LIMIT ?",
            (boot, leaf, most),
        ).fetchall()

    def position(self, boot: str) -> Position | None:
        """Return up to where a boot is indexed."""
        row = self._connection.execute(
            "SELECT segment, offset, leaf, digest FROM boots WHERE name = ?", (boot,)
        ).fetchone()
        if row is None or tuple(map(type, row)) != (int, int, int, bytes):
            return None
        return Position(segment=row[0], offset=row[1], leaf=row[2], digest=row[3])

    def leaves_seen(self) -> dict[str, int]:
        """Return by boot how many leaves its log had when it was indexed, at the most."""
        return dict(
            self._connection.execute(
                "SELECT name, most FROM boots WHERE typeof(name) = 'text' AND"
                " typeof(most) = 'integer'"
            ).fetchall()
        )

    def insert(
        self,
        boot: str,
        receipts: Sequence[IndexedReceipt],
        epochs: Sequence[IndexedEpoch],
        position: Position,
    ) -> None:
        """Add rows of one boot and say up to where it is indexed now, in one transaction."""
        identity = self._id(boot)
        with _Transaction(self._connection):
            self._insert_receipts(
                [
                    (
                        identity << _LEAF_BITS | row.leaf,
                        _key(row.jti),
                        row.jti,
                        row.segment,
                        row.offset,
                        row.sub,
                        row.digest,
                        row.mark,
                    )
                    for row in sorted(receipts, key=lambda row: _key(row.jti))
                ]
            )
            self._connection.executemany(
                "INSERT OR IGNORE INTO epochs VALUES (?, ?, ?, ?, ?)",
                [(identity, row.size, row.number, row.segment, row.offset) for row in epochs],
            )
            self._connection.execute(
                "UPDATE boots SET segment = ?, offset = ?, leaf = ?, digest = ?,"
                " most = max(most, ?) WHERE id = ?",
                (
                    position.segment,
                    position.offset,
                    position.leaf,
                    position.digest,
                    position.leaf + 1,
                    identity,
                ),
            )

    def forget_rows(self, boot: str) -> None:
        """Remove the rows of a boot and its position; how many leaves it had is remembered."""
        identity = self._id(boot)
        with _Transaction(self._connection):
            self._connection.execute(_DELETE_RECEIPTS, _leaves_of(identity))
            self._connection.execute("DELETE FROM epochs WHERE boot = ?", (identity,))
            self._connection.execute(
                "UPDATE boots SET segment = NULL, offset = NULL, leaf = NULL, digest = NULL"
                " WHERE id = ?",
                (identity,),
            )

    def forget_boot(self, boot: str) -> None:
        """Remove everything about a boot: its folder is gone."""
        self.forget_rows(boot)
        self._connection.execute("DELETE FROM boots WHERE name = ?", (boot,))
        self._ids.pop(boot, None)

    def forget_segments(self, boot: str, below: int) -> None:
        """Remove the rows that point into segments of a boot below a number."""
        identity = self._id(boot)
        with _Transaction(self._connection):
            self._connection.execute(
                f"{_DELETE_RECEIPTS} AND segment < ?", (*_leaves_of(identity), below)
            )
            self._connection.execute(
                "DELETE FROM epochs WHERE boot = ? AND segment < ?", (identity, below)
            )

    def boots(self) -> Iterable[str]:
        """Return the names of the boots it knows."""
        return list(self.leaves_seen())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _insert_receipts(self, rows: list[tuple[object, ...]]) -> None:
        # sqlite3 gives up the interpreter lock for every statement; beside a busy thread getting
        # it back costs up to 5 ms, which for single rows is longer than receipts take to arrive.
        whole = len(rows) - len(rows) % _ROWS_A_STATEMENT
        for start in range(0, whole, _ROWS_A_STATEMENT):
            values = chain.from_iterable(rows[start : start + _ROWS_A_STATEMENT])
            self._connection.execute(_INSERT_RECEIPTS, list(values))
        self._connection.executemany(_INSERT_RECEIPT, rows[whole:])

    def _id(self, boot: str) -> int:
        known = self._ids.get(boot)
        if known is None:
            self._connection.execute("INSERT OR IGNORE INTO boots (name) VALUES (?)", (boot,))
            (known,) = self._connection.execute(
                "SELECT id FROM boots WHERE name = ?", (boot,)
            ).fetchone()
            self._ids[boot] = int(known)
        return int(known)


def _leaves_of(boot: int) -> tuple[int, int]:
    """Return the first id of a boot's receipts, and the first of the next boot's."""
    return boot << _LEAF_BITS, (boot + 1) << _LEAF_BITS


def _key(jti: bytes) -> int:
    return int.from_bytes(jti[:8], "big", signed=True)


class _Transaction:
    """All of a block or nothing."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if failure is None else "ROLLBACK")


def remove_database(path: Path) -> None:
    """Remove the file and what sqlite keeps beside it.  Raises OSError."""
    for file in _files(path):
        file.unlink(missing_ok=True)


def _require_no_link(path: Path) -> None:
    """Raise `sqlite3.DatabaseError` for a link: sqlite would write to where it leads."""
    if any(file.is_symlink() for file in _files(path)):
        raise sqlite3.DatabaseError("a file of the index is a link")


def _files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
