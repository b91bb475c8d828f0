"""EQUIVOCATION: did keys of one boot sign, or its quotes state, two things that cannot both be?

Each finding names the two things.  Both are in the file, so that whoever is shown the file can
check them without trusting the one who shows it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from attestation.merkle.checkpoint import Checkpoint
    from attestation.receipt.signing import Receipt
    from attestation.verifier.epochs import QuotedEpoch
    from attestation.verifier.ledger import Page

_ID = "EQUIVOCATION"
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A receipt whose signature holds under a boot that is not refuted, and the signed checkpoint
    its proof led to.
    """

    receipt: Receipt
    checkpoint: Checkpoint | None

    @property
    def name(self) -> str:
        """How findings call the receipt."""
        return f"receipt {self.receipt.claims.jti}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedState:
    """Size and root (32 bytes) of one boot's log, signed or quoted; `source` says where."""

    bootseed: bytes
    size: int
    root: bytes
    source: str


def states_of(sealed: Iterable[Sealed]) -> list[SignedState]:
    """Return the checkpoints that proofs led to."""
    return [
        SignedState(
            bootseed=one.receipt.claims.bootseed,
            size=one.checkpoint.size,
            root=one.checkpoint.root,
            source=f"the proof of {one.name}",
        )
        for one in sealed
        if one.checkpoint is not None
    ]


def find_contradictions(
    sealed: Sequence[Sealed], epochs: Sequence[QuotedEpoch], states: Sequence[SignedState]
) -> list[str]:
    """Return what contradicts what, among signed receipts, quoted epochs and signed states.

    1. two receipts with one index, one id or one admission number
    2. two epochs with one number, or after one and the same quote
    3. two roots for one size of a log
    4. receipts below an epoch's size that the epoch does not count
    """
    return [
        *_clashes((_place(one), one.receipt.digest.value, _named(one)) for one in sealed),
        *_clashes((_id(one), one.receipt.digest.value, _named(one)) for one in sealed),
        *_clashes((_admission(one), one.receipt.digest.value, _named(one)) for one in sealed),
        *_clashes((_number(one), one.statement.digest.value, _stated(one)) for one in epochs),
        *_clashes((_before(one), one.statement.digest.value, _stated(one)) for one in epochs),
        *_clashes((_size(one), one.root, _rooted(one)) for one in states),
        *_uncounted(sealed, epochs),
    ]


def check_equivocation(contradictions: Sequence[str], looked_at: int, page: Page) -> None:
    """EQUIVOCATION, from all findings about a file; `looked_at` things were compared."""
    if contradictions:
        shown = "; ".join(contradictions[:_SHOWN])
        more = len(contradictions) - _SHOWN
        page.rejected(
            _ID,
            f"the gateway signed contradicting histories: {shown}"
            + (f"; and {more} more" if more > 0 else ""),
            expected="one receipt for each index, id and admission; one statement for each epoch; "
            "one root for each size; every receipt counted",
            observed=counted(len(contradictions), "contradiction"),
            hint="keep this file: the gateway's own signatures in it are proof against the gateway",
        )
    elif looked_at:
        page.passed(_ID, _agreeing(looked_at))
    else:
        page.skipped(_ID, "no receipt whose signature holds to compare")


def _agreeing(count: int) -> str:
    if count == 1:
        return "no contradiction: one signed receipt or checkpoint is here"
    return f"no contradiction among {count} signed receipts and checkpoints"


# What is compared: what two things must not share unless they are the same, and how it is said.


def _place(one: Sealed) -> tuple[bytes, str]:
    return one.receipt.claims.bootseed, f"one index, {one.receipt.claims.log.index}"


def _id(one: Sealed) -> tuple[bytes, str]:
    return one.receipt.claims.bootseed, f"one id, {one.receipt.claims.jti}"


def _admission(one: Sealed) -> tuple[bytes, str]:
    return one.receipt.claims.bootseed, f"one admission, {one.receipt.claims.log.admission}"


def _number(one: QuotedEpoch) -> tuple[bytes, str]:
    return one.statement.bootseed, f"one epoch number, {one.statement.epoch}"


def _before(one: QuotedEpoch) -> tuple[bytes, str]:
    return one.statement.bootseed, f"one quote before them, {one.statement.prev_quote_digest.hex}"


def _size(one: SignedState) -> tuple[bytes, str]:
    return one.bootseed, f"two roots for one checkpoint size, {one.size}"


def _named(one: Sealed) -> str:
    return f"{one.name} ({one.receipt.digest})"


def _stated(one: QuotedEpoch) -> str:
    return f"{one.name} (statement {one.statement.digest})"


def _rooted(one: SignedState) -> str:
    return f"{one.source} (root {one.root.hex()[:16]}…)"


def _clashes(claims: Iterable[tuple[tuple[bytes, str], bytes, str]]) -> list[str]:
    first: dict[Hashable, tuple[bytes, str]] = {}
    found: dict[Hashable, str] = {}
    for key, value, name in claims:
        before, other = first.setdefault(key, (value, name))
        if before != value:
            found.setdefault(key, f"{other} and {name} have {key[1]}")
    return list(found.values())


def _uncounted(sealed: Iterable[Sealed], epochs: Iterable[QuotedEpoch]) -> list[str]:
    """Return the epochs whose own counters leave no room for the receipts below their size."""
    boots: dict[bytes, dict[int, Sealed]] = defaultdict(dict)
    for one in sealed:
        boots[one.receipt.claims.bootseed][one.receipt.claims.log.index] = one
    sorted_: dict[bytes, tuple[list[int], list[Sealed]]] = {}
    for seed, by_index in boots.items():
        indices = sorted(by_index)
        newest = accumulate((by_index[index] for index in indices), _later)
        sorted_[seed] = (indices, list(newest))
    found: list[str] = []
    for epoch in epochs:
        indices, latest = sorted_.get(epoch.statement.bootseed, ([], []))
        below = bisect_left(indices, epoch.statement.size)
        if below > epoch.statement.completed:
            found.append(
                f"{_stated(epoch)} counts {counted(epoch.statement.completed, 'receipt')} below "
                f"size {epoch.statement.size}, and signed ones here: {below}"
            )
        if below and _number_of(latest[below - 1]) >= epoch.statement.admitted:
            found.append(
                f"{_stated(epoch)} counts {counted(epoch.statement.admitted, 'admission')} from 0, "
                f"and {_named(latest[below - 1])} below its size has number "
                f"{_number_of(latest[below - 1])}"
            )
    return found


def _later(one: Sealed, other: Sealed) -> Sealed:
    return max(one, other, key=_number_of)


def _number_of(one: Sealed) -> int:
    return one.receipt.claims.log.admission
