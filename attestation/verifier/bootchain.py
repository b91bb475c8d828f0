"""BOOT-CHAIN: does a boot continue the log of the boot before it, and only that boot?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.verifier.appraisal import boot_name
from attestation.verifier.equivocation import SignedState
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attestation.bundle import BootEvidence
    from attestation.encoding.digest import Digest
    from attestation.merkle.checkpoint import Checkpoint
    from attestation.statement import PreviousBoot
    from attestation.verifier.appraisal import Appraised
    from attestation.verifier.epochs import QuotedEpoch
    from attestation.verifier.ledger import Ledger, Page

_ID = "BOOT-CHAIN"


def check_boot_chain(
    appraised: Iterable[Appraised], epochs: Sequence[QuotedEpoch], ledger: Ledger
) -> list[SignedState]:
    """BOOT-CHAIN for every boot.

    1. no second boot names the same predecessor, and nobody is their own predecessor
    2. the predecessor's log key signed the checkpoint that is named, over its own log
    3. the predecessor had no larger log quoted: else the boot was started from an older copy

    Returns the checkpoints of step 2, as signed states of the predecessors' logs.
    """
    known = list(appraised)
    chain = _Chain(
        by_quote={one.quote.digest: one.boot for one in known if one.quote},
        successors=Counter(
            one.boot.statement.prev.quote_digest for one in known if one.boot.statement.prev
        ),
        largest=_largest(epochs),
    )
    circles = _circles([one.boot for one in known], chain)
    states = []
    for one in known:
        state = _check(one.boot, chain, circles, ledger.about(boot_name(one.boot)))
        states += [state] if state else []
    return states


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """The boots of a file by quote digest, how often each is named, its largest quoted epoch."""

    by_quote: Mapping[Digest, BootEvidence]
    successors: Mapping[Digest, int]
    largest: Mapping[bytes, QuotedEpoch]

    def before(self, boot: BootEvidence) -> BootEvidence | None:
        previous = boot.statement.prev
        return self.by_quote.get(previous.quote_digest) if previous else None


def _check(
    boot: BootEvidence, chain: _Chain, circles: set[bytes], page: Page
) -> SignedState | None:
    previous, before = boot.statement.prev, chain.before(boot)
    if previous is None:
        page.info(_ID, "the statement names no boot before it")
        return None
    checkpoint = None
    if before is not None:
        try:
            checkpoint = _verify_last_checkpoint(previous, before)
        except EvidenceError as error:
            page.refused(_ID, error)
            return None
    if boot.statement.bootseed in circles:
        page.rejected(_ID, "the boots name each other in a circle", expected="a first boot")
    elif chain.successors[previous.quote_digest] > 1:
        page.rejected(
            _ID,
            "two boots name the same predecessor: one history was continued twice",
            expected="one successor for each boot",
            observed=f"predecessor {previous.quote_digest}",
        )
    elif before is None or checkpoint is None:
        page.skipped(
            _ID,
            f"the predecessor {previous.quote_digest} is not in the file",
            hint="`attested bundle` merges bundles of several boots",
        )
    else:
        _check_size(before, checkpoint, chain.largest.get(before.statement.bootseed), page)
    if before is None or checkpoint is None:
        return None
    return SignedState(
        bootseed=before.statement.bootseed,
        size=checkpoint.size,
        root=checkpoint.root,
        source=f"`prev` of {boot_name(boot)}",
    )


def _check_size(
    before: BootEvidence, checkpoint: Checkpoint, newest: QuotedEpoch | None, page: Page
) -> None:
    if newest is not None and newest.statement.size > checkpoint.size:
        page.rejected(
            _ID,
            "the boot was started from an older copy of its predecessor's log: "
            f"{newest.name} was quoted over more than the checkpoint it continues",
            expected=f"a checkpoint of at least {newest.statement.size} leaves",
            observed=f"{checkpoint.size}",
        )
        return
    page.passed(
        _ID,
        f"continues the log of boot {short(before.statement.bootseed)}",
        observed=f"{checkpoint.size} leaves",
    )


def _verify_last_checkpoint(previous: PreviousBoot, before: BootEvidence) -> Checkpoint:
    note = parse_note(previous.checkpoint)
    verify_note(note, [before.keyset.log_key])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != before.statement.log_origin:
        raise EvidenceError(
            "the named checkpoint is of another log",
            expected=before.statement.log_origin,
            observed=checkpoint.origin,
        )
    return checkpoint


def _largest(epochs: Iterable[QuotedEpoch]) -> dict[bytes, QuotedEpoch]:
    found: dict[bytes, QuotedEpoch] = {}
    for epoch in epochs:
        before = found.get(epoch.statement.bootseed, epoch)
        found[epoch.statement.bootseed] = max(before, epoch, key=lambda one: one.statement.size)
    return found


def _circles(boots: Iterable[BootEvidence], chain: _Chain) -> set[bytes]:
    """Return the bootseeds of boots that are their own predecessors, each boot walked once."""
    circles: set[bytes] = set()
    done: set[bytes] = set()
    for boot in boots:
        path: list[bytes] = []
        at: BootEvidence | None = boot
        while at is not None and at.statement.bootseed not in done:
            path.append(at.statement.bootseed)
            done.add(at.statement.bootseed)
            at = chain.before(at)
        if at is not None and at.statement.bootseed in path:
            circles.update(path[path.index(at.statement.bootseed) :])
    return circles
