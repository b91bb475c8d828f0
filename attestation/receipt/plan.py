"""What goes to the engine, and how it differs from what came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.receipt import text
from attestation.receipt.delivery import body_of
from attestation.receipt.order import misuse

if TYPE_CHECKING:
    from attestation.receipt.claims import Splice
    from attestation.receipt.outcome import Body


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPlan:
    """The exact bytes for the engine, and how they differ from the received ones.

    `inserted` holds the bytes of each splice, in the order of `splices`.
    """

    body: bytes = field(repr=False)
    splices: tuple[Splice, ...] = ()
    inserted: tuple[bytes, ...] = field(default=(), repr=False)


def require_consistent(plan: ForwardPlan, received: Body) -> None:
    """Refuse a plan whose body is not the received one with just the stated splices.

    Only digest and length of the received body are at hand, so a rewrite is checked by its
    lengths; `attestation.receipt.splices` replays it where both bodies are.
    """
    pairs = zip(plan.splices, plan.inserted, strict=True)
    agree = len(plan.splices) == len(plan.inserted) <= text.MAX_SPLICES and all(
        splice.inserted == len(piece) and text.CODE.fullmatch(splice.code)
        for splice, piece in pairs
    )
    grown = sum(splice.inserted - splice.deleted for splice in plan.splices)
    if not agree or len(plan.body) != received.length + grown:
        raise misuse("splices, inserted bytes and lengths contradict each other", "plan")
    if not plan.splices and body_of(plan.body) != received:
        raise misuse("without a splice the forwarded body is the received one", "plan")
