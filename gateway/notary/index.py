"""Where the receipts of this boot are: bounded, compact, newest kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from attestation.encoding.digest import Digest
from gateway.notary.log.segments import Location

_ENTRY = struct.Struct(">QQI32s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A durable receipt: location of its record, owner, receipt digest."""

    location: Location
    sub: Digest
    digest: Digest


class ReceiptIndex:
    """Maps receipt ids to records; beyond `capacity` the oldest ids are forgotten.

    About 220 bytes an entry: the receipts themselves stay on disk.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: dict[bytes, bytes] = {}
        self._owners: list[Digest] = []
        self._numbers: dict[Digest, int] = {}

    def add(self, jti: str, stored: Stored) -> None:
        """Add a receipt under its 32-digit id."""
        number = self._numbers.get(stored.sub)
        if number is None:
            number = self._numbers[stored.sub] = len(self._owners)
            self._owners.append(stored.sub)
        if len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[bytes.fromhex(jti)] = _ENTRY.pack(
            *stored.location, number, stored.digest.value
        )

    def get(self, jti: str) -> Stored | None:
        """Return where the receipt is, or None if it is not known (any more)."""
        entry = self._entries.get(bytes.fromhex(jti))
        if entry is None:
            return None
        segment, offset, number, digest = _ENTRY.unpack(entry)
        return Stored(
            location=Location(segment, offset), sub=self._owners[number], digest=Digest(digest)
        )
