"""Replaying a rewrite: from the received body and the inserted bytes to the forwarded body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.receipt.claims import Splice


def apply_splices(received: bytes, splices: Sequence[Splice], inserted: Sequence[bytes]) -> bytes:
    """Return what `received` becomes.

    Offsets count bytes of the received body; splices are in ascending order and do not overlap;
    `inserted` holds the bytes of each.  Raises `EvidenceError` (code "splice") otherwise.
    """
    if len(splices) != len(inserted):
        raise _contradiction(f"{len(splices)} insertions", f"{len(inserted)}")
    pieces: list[bytes] = []
    position = 0
    for splice, piece in zip(splices, inserted, strict=True):
        if splice.inserted != len(piece):
            raise _contradiction(f"an insertion of {splice.inserted} bytes", f"{len(piece)} bytes")
        if not position <= splice.offset <= splice.offset + splice.deleted <= len(received):
            raise _contradiction("ascending splices inside the received body", "another order")
        pieces += received[position : splice.offset], piece
        position = splice.offset + splice.deleted
    return b"".join((*pieces, received[position:]))


def _contradiction(expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        "the rewrites do not fit the bodies", code="splice", expected=expected, observed=observed
    )
