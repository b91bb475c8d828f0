r"""The file of one boot: framed, checksummed records, only ever appended to.

    file    = "attested-gateway/journal/1\n" record*
    record  = length (4 bytes, big-endian, of the payload) ‖ kind (1 byte) ‖ payload ‖ check
    check   = the first 8 bytes of SHA-256(length ‖ kind ‖ payload)

Records stand in leaf order: record n is the source of leaf n, and `kind` is the leaf's type
byte (SPEC section 3).  A boot record holds the canonical boot statement, a receipt record the
compact JWS: digests, lengths, codes and short names, no prompt, answer, key or opening.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from gateway.notary.files import FileLayer

MAGIC = b"attested-gateway/journal/1\n"
FOLDER_MODE = 0o700
_HEAD_BYTES = 5
_CHECK_BYTES = 8
_MAX_PAYLOAD_BYTES = 1 << 20


class Kind(IntEnum):
    """The type byte of a log entry."""

    BOOT = 0
    RECEIPT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record: where it starts in the file, its kind and its payload."""

    offset: int
    kind: Kind
    payload: bytes


def log_entry(kind: Kind, digest: Digest) -> bytes:
    """Return the 33-byte log entry: type ‖ SHA-256."""
    return bytes([kind]) + digest.value


def encode_record(kind: Kind, payload: bytes) -> bytes:
    """Return the framed bytes of a record."""
    framed = len(payload).to_bytes(4, "big") + bytes([kind]) + payload
    return framed + _check(framed)


def parse_records(data: bytes) -> Iterator[Record]:
    """Yield the records of a whole journal, in order.

    Raises `MalformedError` with code "journal_magic", "journal_torn" (the file ends inside a
    record) or "journal_damaged" (a record is not what was written).
    """
    if not data.startswith(MAGIC):
        raise MalformedError("this is not a journal of the notary", code="journal_magic")
    offset = len(MAGIC)
    while offset < len(data):
        record = _record_at(data[offset : offset + _HEAD_BYTES], data, offset)
        yield record
        offset += _HEAD_BYTES + len(record.payload) + _CHECK_BYTES


def _record_at(head: bytes, data: bytes, offset: int) -> Record:
    length = int.from_bytes(head[:4], "big")
    end = offset + _HEAD_BYTES + length + _CHECK_BYTES
    if len(head) < _HEAD_BYTES or (length <= _MAX_PAYLOAD_BYTES and end > len(data)):
        raise MalformedError("a journal ends inside a record", code="journal_torn")
    return _decode(data[offset:end], offset)


def _decode(framed: bytes, offset: int) -> Record:
    body, check = framed[:-_CHECK_BYTES], framed[-_CHECK_BYTES:]
    kind = body[4] if len(body) >= _HEAD_BYTES else -1
    if _check(body) != check or kind not in Kind.__members__.values():
        raise MalformedError("a record of a journal is damaged", code="journal_damaged")
    return Record(offset=offset, kind=Kind(kind), payload=body[_HEAD_BYTES:])


def _check(framed: bytes) -> bytes:
    return hashlib.sha256(framed).digest()[:_CHECK_BYTES]


class Journal:
    """An open journal.  Not thread-safe: `append` belongs to one writer at a time.

    Methods raise OSError; after one did, the journal must not be written to again.
    """

    def __init__(self, layer: FileLayer, path: Path, descriptor: int) -> None:
        self._layer = layer
        self._descriptor = descriptor
        self.path = path
        self.size = 0

    @classmethod
    def create(cls, layer: FileLayer, folder: Path, name: str) -> Self:
        """Create the journal `name` in `folder`, durable with its name.

        The folder is made with mode 0700 if it is absent.  Raises `UnavailableError` if that is
        impossible, if others can enter the folder, or if the journal exists already.
        """
        path = folder / name
        try:
            _require_private_folder(layer, folder)
            journal = cls(layer, path, layer.create(path))
            journal.append(MAGIC)
            layer.sync_folder(folder)
        except OSError as error:
            raise _uncreatable(path, error) from error
        return journal

    def append(self, data: bytes) -> None:
        """Write all of `data` and return when it is durable; `size` then counts it."""
        _write_all(self._layer, self._descriptor, data)
        self._layer.sync_data(self._descriptor)
        self.size += len(data)

    def read(self, offset: int) -> Record:
        """Return the record that starts at `offset`, checked.

        Raises `MalformedError` if it is not what was written there.
        """
        head = self._layer.read_at(self._descriptor, _HEAD_BYTES, offset)
        length = int.from_bytes(head[:4], "big")
        if len(head) < _HEAD_BYTES or length > _MAX_PAYLOAD_BYTES:
            raise MalformedError("a record of a journal is damaged", code="journal_damaged")
        total = _HEAD_BYTES + length + _CHECK_BYTES
        return _decode(self._layer.read_at(self._descriptor, total, offset), offset)

    def close(self) -> None:
        """Close the file; its bytes never change after that."""
        self._layer.close(self._descriptor)


def store_file(layer: FileLayer, path: Path, data: bytes) -> None:
    """Write a small file that must not exist yet, durable with its name.

    Raises `UnavailableError`.
    """
    try:
        descriptor = layer.create(path)
        try:
            _write_all(layer, descriptor, data)
            layer.sync_data(descriptor)
        finally:
            layer.close(descriptor)
        layer.sync_folder(path.parent)
    except OSError as error:
        raise _uncreatable(path, error) from error


def _write_all(layer: FileLayer, descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        taken = layer.write(descriptor, rest)
        if taken <= 0:
            raise OSError("a write took nothing")
        rest = rest[taken:]


def _uncreatable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the file {path} cannot be created",
        code="data_dir",
        observed=error.strerror or "an I/O error",
        hint="check notary.data_dir: its folder must exist and belong to this user",
    )


def _require_private_folder(layer: FileLayer, folder: Path) -> None:
    if not folder.exists():
        layer.make_folder(folder)
    if not folder.is_dir():
        raise UnavailableError(
            f"the data folder {folder} is no folder",
            code="data_dir",
            expected="a folder of mode 700, or nothing there yet",
            hint="check notary.data_dir",
        )
    mode = folder.stat().st_mode & 0o777
    if mode & ~FOLDER_MODE:
        raise UnavailableError(
            f"others can enter the data folder {folder}",
            code="data_dir",
            expected="mode 700",
            observed=f"mode {mode:o}",
            hint=f"chmod 700 {folder}",
        )
