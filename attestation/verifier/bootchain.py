"""BOOT-CHAIN: does a boot continue the log of the boot before it, and only that boot?"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.counts import leaves
from attestation.errors import EvidenceError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.verifier.appraisal import Standing, boot_name
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

    1. no second boot of at least the same standing names the same predecessor, and nobody is
       their own predecessor
    2. the predecessor's log key signed the checkpoint that is named, over its own log
    3. the predecessor had no larger log quoted: else the boot was started from an older copy

    A boot that anybody could have made can so fail here, and cannot make a better one fail: it is
    outweighed as a successor, blamed for the circle, and tells nothing as a predecessor.
    Returns the checkpoints of step 2, as signed states of the predecessors' logs.
    """
    known = list(appraised)
    ranked = sorted(known, key=lambda one: one.standing)
    chain = _Chain(
        # In order of standing: of several boots with one quote, the best is the one meant.
        by_quote={one.quote.digest: one for one in ranked if one.quote},
        successors=_successors(ranked),
        largest=_largest(epochs),
    )
    circles = _circles(known, chain)
    states = []
    for one in known:
        state = _check(one, chain, circles, ledger.about(boot_name(one.boot)))
        states += [state] if state else []
    return states


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """The boots of a file by quote digest, the standings of those that name each, rising, and its
    largest quoted epoch.
    """

    by_quote: Mapping[Digest, Appraised]
    successors: Mapping[Digest, Sequence[Standing]]
    largest: Mapping[bytes, QuotedEpoch]

    def before(self, one: Appraised) -> Appraised | None:
        previous = one.boot.statement.prev
        return self.by_quote.get(previous.quote_digest) if previous else None

    def rivals(self, one: Appraised, previous: PreviousBoot) -> int:
        """Return how many others of at least its standing name the predecessor of a boot."""
        standings = self.successors[previous.quote_digest]
        return len(standings) - bisect_left(standings, one.standing) - 1


def _check(one: Appraised, chain: _Chain, circles: set[bytes], page: Page) -> SignedState | None:
    boot, previous, named = one.boot, one.boot.statement.prev, chain.before(one)
    if previous is None:
        page.info(_ID, "the statement names no boot before it")
        return None
    # The log key of a refuted boot is anybody's: it neither confirms nor contradicts the name.
    confirmed = None
    if named and named.standing is not Standing.REFUTED:
        try:
            confirmed = named.boot, _verify_last_checkpoint(previous, named.boot)
        except EvidenceError as error:
            page.refused(_ID, error)
            return None
    if boot.statement.bootseed in circles:
        page.rejected(_ID, "the boots name each other in a circle", expected="a first boot")
    elif chain.rivals(one, previous):
        page.rejected(
            _ID,
            "two boots name the same predecessor: one history was continued twice",
            expected="one successor for each boot",
            observed=f"predecessor {previous.quote_digest}",
        )
    elif confirmed is None:
        page.skipped(
            _ID,
            f"the predecessor {previous.quote_digest} is not in the file"
            + (", only a refuted boot in its place" if named else ""),
            hint="`attested bundle` merges bundles of several boots",
        )
    else:
        _check_size(*confirmed, chain, page)
    if confirmed is None:
        return None
    before, checkpoint = confirmed
    return SignedState(
        bootseed=before.statement.bootseed,
        size=checkpoint.size,
        root=checkpoint.root,
        source=f"`prev` of {boot_name(boot)}",
    )


def _check_size(before: BootEvidence, checkpoint: Checkpoint, chain: _Chain, page: Page) -> None:
    newest = chain.largest.get(before.statement.bootseed)
    if newest is not None and newest.statement.size > checkpoint.size:
        page.rejected(
            _ID,
            "the boot was started from an older copy of its predecessor's log: "
            f"{newest.name} was quoted over more than the checkpoint it continues",
            expected=f"a checkpoint of at least {leaves(newest.statement.size)}",
            observed=f"{checkpoint.size}",
        )
        return
    page.passed(
        _ID,
        f"continues the log of boot {short(before.statement.bootseed)}",
        observed=leaves(checkpoint.size),
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


def _successors(ranked: Iterable[Appraised]) -> dict[Digest, list[Standing]]:
    found: defaultdict[Digest, list[Standing]] = defaultdict(list)
    for one in ranked:
        if one.boot.statement.prev:
            found[one.boot.statement.prev.quote_digest].append(one.standing)
    return found


def _circles(boots: Iterable[Appraised], chain: _Chain) -> set[bytes]:
    """Return the bootseeds of boots to blame for circles of predecessors, each boot walked once.

    A quote cannot report its own digest, so that a circle has a refuted boot: of every circle,
    those of the lowest standing are to blame.
    """
    blamed: set[bytes] = set()
    done: set[bytes] = set()
    for boot in boots:
        path: dict[bytes, Standing] = {}
        at: Appraised | None = boot
        while at is not None and at.boot.statement.bootseed not in done:
            path[at.boot.statement.bootseed] = at.standing
            done.add(at.boot.statement.bootseed)
            at = chain.before(at)
        if at is not None and at.boot.statement.bootseed in path:
            seeds = list(path)
            circle = seeds[seeds.index(at.boot.statement.bootseed) :]
            lowest = min(path[seed] for seed in circle)
            blamed.update(seed for seed in circle if path[seed] is lowest)
    return blamed
