"""EPOCH-CHAIN: do the quoted epochs of a boot follow one another, without a gap?"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from attestation.verifier.ledger import Complaint, unequal
from attestation.verifier.words import gaps, named_spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.verifier.epochs import QuotedEpoch
    from attestation.verifier.ledger import Ledger, Page

_ID = "EPOCH-CHAIN"
_COUNTERS = ("size", "completed", "admitted", "unauthenticated", "refused_unreceipted")
_HINT = (
    "get each with GET /v1/log/epoch/{number} and merge them with `attested bundle`; one receipt "
    "needs none but its own"
)


def by_boot(epochs: Iterable[QuotedEpoch]) -> dict[bytes, list[QuotedEpoch]]:
    """Return the epochs of each boot, in the order of their numbers."""
    found: dict[bytes, list[QuotedEpoch]] = defaultdict(list)
    for epoch in sorted(epochs, key=lambda one: one.statement.epoch):
        found[epoch.statement.bootseed].append(epoch)
    return found


def check_epoch_chains(epochs: Sequence[QuotedEpoch], ledger: Ledger) -> None:
    """EPOCH-CHAIN for every boot that has quoted epochs in the file.

    1. epoch 0 names the boot's quote, every other one the quote of the epoch before it
    2. size and counters never fall, and no more receipts are new than leaves
    3. no number from 0 to the highest is missing; a gap is never a pass
    """
    for seed, own in by_boot(epochs).items():
        _check(own, ledger.about(f"epochs of boot {seed.hex()[:16]}"))


def _check(own: Sequence[QuotedEpoch], page: Page) -> None:
    numbers = [epoch.statement.epoch for epoch in own]
    if len(set(numbers)) != len(numbers):
        page.skipped(_ID, "two epochs have one number: see EQUIVOCATION")
        return
    complaints = [_misplaced(epoch) for epoch in own]
    complaints += [_broken(before, after) for before, after in itertools.pairwise(own)]
    complaint = next((one for one in complaints if one is not None), None)
    missing = gaps(numbers, 0, numbers[-1])
    if complaint is not None:
        page.contradicted(_ID, complaint)
    elif missing:
        page.skipped(
            _ID,
            f"those in the file fit together, but epochs are missing: {named_spans(missing)}",
            hint=_HINT,
        )
    else:
        page.passed(_ID, f"unbroken from the boot's quote to epoch {numbers[-1]}")


def _misplaced(epoch: QuotedEpoch) -> Complaint | None:
    said = epoch.statement
    first, begins = said.epoch == 0, said.prev_quote_digest == said.boot_quote_digest
    if first == begins:
        return None
    return Complaint(
        reason=f"{epoch.name} does not stand where the chain of quotes puts it",
        expected="the boot's quote before epoch 0, and before no other",
        observed=f"{epoch.name} after quote {said.prev_quote_digest}",
    )


def _broken(before: QuotedEpoch, after: QuotedEpoch) -> Complaint | None:
    """Return what keeps `after` from being a later epoch of the boot than `before`."""
    old, new = before.statement, after.statement
    if new.epoch == old.epoch + 1 and new.prev_quote_digest != before.quote_digest:
        return Complaint(
            reason=f"{after.name} does not follow {before.name}",
            expected=f"the quote before it to be {before.quote_digest}",
            observed=f"{new.prev_quote_digest}",
        )
    fallen = {name for name in _COUNTERS if getattr(new, name) < getattr(old, name)}
    if fallen:
        return unequal(
            f"{after.name} counts less than {before.name}, which came before it",
            {name: f"at least {getattr(old, name)}" for name in _COUNTERS if name in fallen},
            {name: getattr(new, name) for name in _COUNTERS},
        )
    if new.completed - old.completed > new.size - old.size:
        return Complaint(
            reason=f"{after.name} counts more new receipts than its log has new leaves",
            expected=f"at most {new.size - old.size} since {before.name}",
            observed=f"{new.completed - old.completed}",
        )
    return None
