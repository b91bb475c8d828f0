"""What a boot counts for its epochs: leaves, receipts, requests, grants."""

from __future__ import annotations

from dataclasses import dataclass

from attestation.encoding.digest import Digest
from attestation.merkle.tree import root_of_peaks
from attestation.receipt.text import MAX_INTEGER
from attestation.statement import grants_digest


def saturated(counted: int, more: int) -> int:
    """Return the sum, or the highest number that a statement can state (2^53 - 1)."""
    return min(counted + more, MAX_INTEGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A state of the log: its leaves, the roots of its complete subtrees, largest first, and how
    many of the leaves are receipts.
    """

    size: int
    peaks: tuple[bytes, ...]
    receipts: int

    @property
    def root(self) -> Digest:
        """The root over all leaves.  Hashed at every look: each batch has a mark, and next to
        none of them is signed.
        """
        return Digest(root_of_peaks(self.peaks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted in one step.  `completed` are the receipt leaves below the size that is
    quoted, `admitted` all requests announced so far, `grants` covers those of the completed.
    """

    admitted: int
    completed: int
    unauthenticated: int
    refused_unreceipted: int
    grants: Digest


class GrantBook:
    """Which grants the receipts of a boot name, and from which leaf on."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._latest: tuple[int, Digest] = (0, grants_digest(()))

    def note(self, grant: Digest, index: int) -> None:
        """The receipt at `index`, higher than all before it, names this grant."""
        if grant.value not in self._first:
            self._first[grant.value] = index

    def digest(self, size: int) -> Digest:
        """Return the digest over the grants of the receipts below `size` (spec/statements.md)."""
        below = [Digest(grant) for grant, index in self._first.items() if index < size]
        if len(below) != self._latest[0]:
            self._latest = len(below), grants_digest(below)
        return self._latest[1]
