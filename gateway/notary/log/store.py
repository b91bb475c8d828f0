"""The log of the running boot on disk: records are appended, made durable and read back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from attestation.errors import MalformedError, UnavailableError
from gateway.notary.log.folder import (
    LOG,
    SEGMENTS,
    boot_folder_name,
    segment_name,
    store_file,
    unusable,
    write_all,
)
from gateway.notary.log.segments import (
    MAGIC,
    NO_SEGMENT_BEFORE,
    Header,
    Location,
    Record,
    encode_batch,
    is_leaf,
    read_record,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer

DEFAULT_SEGMENT_BYTES = 64 << 20
_MAX_OPEN = 16
_new = tuple.__new__  # a named tuple by its own name takes three times as long


class LogStore:
    """The segments of one boot, written by this process only.

    `append` belongs to one thread at a time; `read` may be called from any.  The first failure
    of `append` is final: nothing is written or synced any more (after a failed sync the kernel
    may have dropped the pages, and the next one would report success).
    """

    def __init__(self, layer: FileLayer, folder: Path, bootseed: bytes, segment_bytes: int) -> None:
        """Describe a store; `create` is how one comes into being."""
        self._layer = layer
        self._folder = folder
        self._segments = folder / SEGMENTS
        self._bootseed = bootseed
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}
        self._number = -1
        self._descriptor = -1
        self._size = 0
        self._first_leaves: dict[int, int] = {}
        self._leaves = 0
        self._batches = 0
        self._last_frame = b""
        self._failed = False
        self._closed = False

    @classmethod
    def create(
        cls,
        layer: FileLayer,
        data_dir: Path,
        boot_files: Mapping[str, bytes],
        bootseed: bytes,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    ) -> Self:
        """Make a boot's folder in the existing `data_dir`: evidence, first segment, all durable.

        `boot_files` are contents by name (boot.json, root.pem).  Raises `UnavailableError` (code
        "data_dir"), also if the folder exists already.
        """
        folder = data_dir / boot_folder_name(bootseed)
        store = cls(layer, folder, bootseed, segment_bytes)
        try:
            layer.make_folder(folder)
            for name, content in boot_files.items():
                store_file(layer, folder / name, content)
            layer.make_folder(folder / SEGMENTS)
            layer.make_folder(folder / LOG)
            layer.sync_folder(folder)
            store._begin_segment(NO_SEGMENT_BEFORE)
            # Last: until then a crash leaves no folder at all, or one that never served.
            layer.sync_folder(data_dir)
        except OSError as error:
            raise unusable(folder, error) from error
        return store

    @property
    def folder(self) -> Path:
        """The folder of this boot."""
        return self._folder

    @property
    def leaves(self) -> int:
        """The number of durable leaves."""
        return self._leaves

    def append(self, frames: Sequence[bytes]) -> list[Location]:
        """Append framed records as one batch and return where they are, once they are durable.

        Blocks.  Begins a new segment where the present one is full.  Raises OSError; nothing of
        the batch may count as durable then, and every later call raises as well.
        """
        if self._failed or self._closed:
            raise OSError("this log takes nothing any more")
        self._failed = True  # until everything below has succeeded
        marker = encode_batch(self._batches)
        data = b"".join((marker, *frames))
        if self._size + len(data) > self._segment_bytes and self._last_frame:
            self._begin_segment(sha256(self._last_frame).digest())
        write_all(self._layer, self._descriptor, data)
        self._layer.sync_data(self._descriptor)
        number, offset = self._number, self._size + len(marker)
        locations: list[Location] = []
        for frame in frames:
            locations.append(_new(Location, (number, offset)))
            offset += len(frame)
        self._size = offset
        self._leaves += sum(map(is_leaf, frames))
        self._batches += 1
        self._last_frame = frames[-1] if frames else marker
        self._failed = False
        return locations

    def read(self, location: Location) -> Record:
        """Return the record at `location`, checked.

        Raises `UnavailableError`: code "log_unreadable" if what is there is not what was
        written, "log_retired" if its segment was kept long enough and is deleted.
        """
        try:
            with self._lock:
                descriptor = self._opened(location.segment)
                return read_record(
                    lambda length, offset: self._layer.read_at(descriptor, length, offset),
                    location.offset,
                )
        except FileNotFoundError as error:
            raise UnavailableError(
                "the segment of this record is no longer kept", code="log_retired"
            ) from error
        except (OSError, MalformedError) as error:
            raise UnavailableError(
                "a record of the log cannot be read back", code="log_unreadable"
            ) from error

    def retire(self, covered: int, before: float) -> list[int]:
        """Delete the oldest segments last changed before `before` (unix s); return their numbers.

        Only those whose leaves all have an index below `covered`, and never the present one.
        Raises OSError.
        """
        retired: list[int] = []
        numbers = sorted(self._first_leaves)
        for number, following in itertools.pairwise(numbers):
            path = self._segments / segment_name(number)
            if self._first_leaves[following] > covered:
                break
            if self._layer.state(path).changed >= before:
                break
            with self._lock:
                self._forget(number)
                self._layer.remove(path)
            del self._first_leaves[number]
            retired.append(number)
        if retired:
            self._layer.sync_folder(self._segments)
        return retired

    def close(self) -> None:
        """Close the files; their bytes never change after that."""
        if self._closed:
            return
        self._closed = True
        with self._lock:
            for number in list(self._open):
                self._forget(number)

    def _begin_segment(self, before: bytes) -> None:
        number = self._number + 1
        header = Header(
            bootseed=self._bootseed, number=number, first_leaf=self._leaves, before=before
        )
        path = self._segments / segment_name(number)
        descriptor = self._layer.create(path)
        with self._lock:
            self._keep_open(number, descriptor)
        data = MAGIC + header.encode()
        write_all(self._layer, descriptor, data)
        self._layer.sync_data(descriptor)
        self._layer.sync_folder(self._segments)
        self._first_leaves[number] = self._leaves
        self._number, self._descriptor, self._size = number, descriptor, len(data)
        self._last_frame = b""

    def _opened(self, number: int) -> int:
        descriptor = self._open.get(number)
        if descriptor is None:
            if self._closed:
                raise OSError("this log is closed")
            descriptor = self._layer.open(self._segments / segment_name(number))
            self._keep_open(number, descriptor)
        return descriptor

    def _keep_open(self, number: int, descriptor: int) -> None:
        self._open[number] = descriptor
        for old in list(self._open):
            if len(self._open) <= _MAX_OPEN:
                break
            if old not in (number, self._number):
                self._forget(old)

    def _forget(self, number: int) -> None:
        descriptor = self._open.pop(number, None)
        if descriptor is not None:
            # What counts was synced; Linux gives the descriptor up even where closing fails.
            with suppress(OSError):
                self._layer.close(descriptor)
