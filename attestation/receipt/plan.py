"""What goes to the engine, and how it differs from what came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from attestation.receipt import text
from attestation.receipt.order import misuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.receipt.claims import Splice


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPlan:
    """The exact bytes for the engine, and how they differ from the received ones.

    `inserted` holds the bytes of each splice, in the order of `splices`.
    """

    body: bytes = field(repr=False)
    splices: tuple[Splice, ...] = ()
    inserted: tuple[bytes, ...] = field(default=(), repr=False)


NOTHING: Final = ForwardPlan(body=b"")


def require_consistent(plan: ForwardPlan, received: Sequence[bytes]) -> None:
    """Refuse a plan whose body is not the received one with just the stated splices.

    `received` are the pieces as they came.  A rewrite is checked by its lengths;
    `attestation.receipt.splices` replays it for those who read the receipt.
    """
    pairs = zip(plan.splices, plan.inserted, strict=True)
    agree = len(plan.splices) == len(plan.inserted) <= text.MAX_SPLICES and all(
        splice.inserted == len(piece) and text.CODE.fullmatch(splice.code)
        for splice, piece in pairs
    )
    grown = sum(splice.inserted - splice.deleted for splice in plan.splices)
    if not agree or len(plan.body) != sum(map(len, received)) + grown:
        raise misuse("splices, inserted bytes and lengths contradict each other", "plan")
    if not plan.splices and not _is_joined(plan.body, received):
        raise misuse("without a splice the forwarded body is the received one", "plan")


def _is_joined(body: bytes, pieces: Sequence[bytes]) -> bool:
    """Whether `body`, as long as they are together, is these pieces: far cheaper than a hash."""
    at = 0
    for piece in pieces:
        if not body.startswith(piece, at):
            return False
        at += len(piece)
    return True
