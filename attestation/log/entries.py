"""What the log's entries may be: 33 bytes, a known type and a SHA-256 digest."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.encoding.digest import Digest

ENTRY_BYTES = 33


class Leaf(IntEnum):
    """The first byte of an entry: what the digest after it is of (docs/spec/log.md)."""

    BOOT = 0x00
    RECEIPT = 0x01
    EPOCH = 0x02
    TASK = 0x03


_TYPES = frozenset(Leaf)


def log_entry(leaf: Leaf, digest: Digest) -> bytes:
    """Return the 33 bytes of an entry: type ‖ SHA-256."""
    return bytes([leaf]) + digest.value


class EntryRules:
    """The rules for single entries, and how many of each type were seen.

    Entry 0 and no other is a boot statement; every entry has 33 bytes and a known type.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()

    @property
    def counts(self) -> Mapping[Leaf, int]:
        """How many entries of each type were seen."""
        return {leaf: self._seen[leaf] for leaf in Leaf}

    def see(self, index: int, entry: bytes) -> None:
        """Check the entry at `index`; `EvidenceError` (code "log_entry") if it breaks a rule."""
        if len(entry) != ENTRY_BYTES or entry[0] not in _TYPES:
            raise _bad(index, f"{ENTRY_BYTES} bytes of type 0x00 to 0x03", _shown(entry))
        if (index == 0) != (entry[0] == Leaf.BOOT):
            raise _bad(index, "a boot statement (0x00) at index 0 and nowhere else", _shown(entry))
        self._seen[entry[0]] += 1


def _shown(entry: bytes) -> str:
    return f"{len(entry)} bytes" + (f" of type 0x{entry[0]:02x}" if entry else "")


def _bad(index: int, expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        f"entry {index} of the log is none that a gateway writes",
        code="log_entry",
        expected=expected,
        observed=observed,
    )
