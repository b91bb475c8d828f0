"""The leaves of a boot folder on disk, read in order from any place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from gateway.notary.log.folder import SEGMENTS, segment_name, segment_number
from gateway.notary.log.segments import (
    LEAF_KINDS,
    MAGIC,
    Header,
    Location,
    ReadAt,
    Record,
    iter_records,
    parse_header,
    read_record,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.notary.files import FileLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLeaf:
    """A leaf record, its index in the log and its place."""

    index: int
    location: Location
    record: Record


class BootSegments:
    """Reads the segments of one boot folder.  Methods raise OSError and `MalformedError`."""

    def __init__(self, layer: FileLayer, folder: Path) -> None:
        self._layer = layer
        self._folder = folder / SEGMENTS

    def numbers(self) -> list[int]:
        """Return the numbers of the segments that are there, in order."""
        found = [segment_number(name) for name in self._layer.list_folder(self._folder)]
        return sorted(number for number in found if number is not None)

    def strangers(self) -> list[str]:
        """Return the names in the folder that are no segment's."""
        names = self._layer.list_folder(self._folder)
        return sorted(name for name in names if segment_number(name) is None)

    @contextmanager
    def opened(self, number: int) -> Iterator[ReadAt]:
        """Open a segment and give what reads from it."""
        layer = self._layer
        descriptor = layer.open(self._folder / segment_name(number))
        try:
            yield lambda length, offset: layer.read_at(descriptor, length, offset)
        finally:
            layer.close(descriptor)

    def header(self, number: int) -> Header:
        """Return the header of a segment."""
        with self.opened(number) as read:
            return parse_header(read_record(read, len(MAGIC)))

    def record(self, location: Location) -> Record:
        """Return one record."""
        with self.opened(location.segment) as read:
            return read_record(read, location.offset)

    def leaves(self, start: Location | None = None, index: int = 0) -> Iterator[PlacedLeaf]:
        """Yield leaves in order: all that are there, or those from `start`, which is leaf `index`.

        Headers must agree with the count (`MalformedError`, code "segment_order"); a segment
        that breaks off ends with its `SegmentError`.
        """
        numbers = self.numbers()
        if start is None and numbers:
            index = self.header(numbers[0]).first_leaf
        for number in numbers:
            if start is not None and number < start.segment:
                continue
            offset = start.offset if start is not None and number == start.segment else 0
            if offset == 0 and self.header(number).first_leaf != index:
                raise MalformedError(
                    "a segment of the log does not follow the one before it",
                    code="segment_order",
                    expected=f"leaf {index} first",
                )
            with self.opened(number) as read:
                for record in iter_records(read, offset):
                    if record.kind in LEAF_KINDS:
                        location = Location(number, record.offset)
                        yield PlacedLeaf(index=index, location=location, record=record)
                        index += 1
