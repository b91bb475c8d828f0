"""Range audits: are all receipts of a log in the file, and do they make the quoted tree?

Said under EPOCH-CHAIN, about `log of boot …`: complete, or what is missing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.encoding.counts import are, counted, were
from attestation.merkle.tree import Tree, leaf_hash
from attestation.statement import grants_digest
from attestation.verifier.appraisal import boot_name
from attestation.verifier.chain import by_boot
from attestation.verifier.ledger import unequal
from attestation.verifier.log import BOOT_LEAF, EPOCH_LEAF, RECEIPT_LEAF
from attestation.verifier.missing import missing_leaves
from attestation.verifier.scopes import LOG_SUBJECT
from attestation.verifier.words import gaps, named_spans

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attestation.bundle import BootEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.signing import Receipt
    from attestation.statement import EpochStatement
    from attestation.verifier.epochs import QuotedEpoch
    from attestation.verifier.equivocation import Sealed, SignedState
    from attestation.verifier.ledger import Complaint, Ledger, Page

_ID = "EPOCH-CHAIN"
_HINT = "merge the missing receipts and epochs in with `attested bundle`"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """What a file has of one boot's log: receipts by index, epochs by number, signed states."""

    boot: BootEvidence
    receipts: dict[int, Receipt] = field(default_factory=dict)
    epochs: list[QuotedEpoch] = field(default_factory=list)
    states: dict[tuple[int, bytes], str] = field(default_factory=dict)


def audit_logs(
    boots: Iterable[BootEvidence],
    sealed: Iterable[Sealed],
    epochs: Iterable[QuotedEpoch],
    states: Iterable[SignedState],
    ledger: Ledger,
    *,
    demanded: bool,
) -> list[str]:
    """Audit the log of every boot; return what contradicts the leaves that are in the file.

    1. take the largest quoted epoch below whose size the file holds every leaf: the boot
       statement, as many receipts as the epoch counts, the statements of the epochs before
    2. recompute the tree; compare its root with every signed or quoted one on the way
    3. compare `completed` and `grants_digest` of every epoch on the way
    4. say what is complete, which admissions were in flight then, or what is missing

    `demanded`: what is not complete keeps the verdict from being better than INCOMPLETE.
    """
    logs = {boot.statement.bootseed: _Log(boot=boot) for boot in boots}
    for one in sealed:
        logs[one.receipt.claims.bootseed].receipts[one.receipt.claims.log.index] = one.receipt
    for state in states:
        logs[state.bootseed].states.setdefault((state.size, state.root), state.source)
    for seed, own in by_boot(epochs).items():
        logs[seed].epochs.extend(own)
    found: list[str] = []
    for log in logs.values():
        page = ledger.about(LOG_SUBJECT + boot_name(log.boot))
        audit = _Audit(log)
        found += audit.contradictions()
        audit.report(page, demanded=demanded)
    return found


class _Audit:
    """The audit of one log.

    `whole` is the largest epoch below whose size no leaf is missing, None without any; `leaves`
    are the hashes of all leaves below its size.  The work is in proportion to what the file
    holds, however many of its epochs are not whole.
    """

    def __init__(self, log: _Log) -> None:
        self.log = log
        self.indices = sorted(log.receipts)
        self.numbers = [epoch.statement.epoch for epoch in log.epochs]
        self.unbroken = next(
            (n for n, number in enumerate(self.numbers) if n != number), len(self.numbers)
        )
        self.fitting = self._fitting()
        self.newest = max(log.epochs, key=_size, default=None)
        self.whole = max(filter(self._is_whole, log.epochs), key=_size, default=None)
        self.leaves = self._leaves_below(self.whole) if self.whole else []
        self._clash = False

    def below(self, size: int) -> int:
        """Return how many receipts of the file are below `size`."""
        return bisect_left(self.indices, size)

    def contradictions(self) -> list[str]:
        """Return the signed states that the leaves do not lead to."""
        wanted = sorted(state for state in self.log.states if state[0] <= len(self.leaves))
        tree, found = Tree(), []
        for size, root in wanted:
            for leaf in self.leaves[tree.size : size]:
                tree.append(leaf)
            if tree.root != root:
                found.append(
                    f"{self.log.states[size, root]} has another root for size {size} than the "
                    f"leaves of {boot_name(self.log.boot)}: its statement, "
                    f"{counted(self.below(size), 'receipt')} in the places named, and its epochs' "
                    "statements in order"
                )
        self._clash = bool(found)
        return found

    def report(self, page: Page, *, demanded: bool) -> None:
        """EPOCH-CHAIN of the log: what is complete, or what keeps it from being shown."""
        complaint = self._miscounted()
        if complaint is not None:
            page.contradicted(_ID, complaint)
        elif self.newest is None:
            if demanded:
                page.lacking(_ID, "no quoted epoch says how many receipts there are", hint=_HINT)
        elif self.whole is self.newest and not self._clash:
            page.passed(_ID, self._complete(self.newest))
        elif demanded:
            page.lacking(_ID, self._incomplete(self.newest), hint=_HINT)
        else:
            page.info(_ID, self._incomplete(self.newest))

    def _fitting(self) -> int:
        """Return how many epochs, in order, can be the leaves that no receipt has.

        Their order is that of their numbers: each was appended after its own quote.
        """
        place = 0
        for count, epoch in enumerate(self.log.epochs[: self.unbroken]):
            place += 1
            while place in self.log.receipts:
                place += 1
            if place < epoch.statement.size:
                return count
        return self.unbroken

    def _is_whole(self, epoch: QuotedEpoch) -> bool:
        """Whether the file has every leaf below an epoch's size."""
        said = epoch.statement
        own = said.size - 1 - said.completed
        return self.below(said.size) == said.completed and own <= min(self.fitting, said.epoch)

    def _leaves_below(self, epoch: QuotedEpoch) -> list[bytes]:
        """Return the leaf hashes below the size of an epoch for which the file has them all."""
        statements = iter(self.log.epochs)
        leaves = [leaf_hash(BOOT_LEAF + self.log.boot.statement.digest.value)]
        for index in range(1, epoch.statement.size):
            receipt = self.log.receipts.get(index)
            if receipt is not None:
                leaves.append(leaf_hash(RECEIPT_LEAF + receipt.digest.value))
            else:
                leaves.append(leaf_hash(EPOCH_LEAF + next(statements).statement.digest.value))
        return leaves

    def _miscounted(self) -> Complaint | None:
        """Return the first epoch, of those with all leaves, that states something else."""
        grants: set[Digest] = set()
        place, stated = 0, grants_digest(grants)
        for epoch in sorted(self.log.epochs, key=_size):
            said, below = epoch.statement, self.below(epoch.statement.size)
            if said.size > len(self.leaves):
                break
            new = {self._grant(index) for index in self.indices[place:below]} - grants
            if new:
                grants |= new
                stated = grants_digest(grants)
            place = below
            complaint = unequal(
                f"{epoch.name} does not count the receipts that are there",
                {"completed": below, "grants_digest": stated.value},
                {"completed": said.completed, "grants_digest": said.grants_digest.value},
            )
            if complaint is not None:
                return complaint
        return None

    def _grant(self, index: int) -> Digest:
        return self.log.receipts[index].claims.decision.grant

    def _complete(self, epoch: QuotedEpoch) -> str:
        said = epoch.statement
        text = (
            f"complete: every receipt below size {said.size} is in the file, {said.completed} of "
            f"them, and their tree is the quoted one; {counted(said.admitted, 'request')} "
            f"{were(said.admitted)} admitted"
        )
        if said.in_flight:
            text += f", {said.in_flight} still in flight then: admissions {self._in_flight(said)}"
        beyond = len(self.indices) - said.completed
        return text + (
            f"; {counted(beyond, 'receipt')} came later and {are(beyond)} not covered"
            if beyond
            else ""
        )

    def _in_flight(self, said: EpochStatement) -> str:
        below = self.indices[: said.completed]
        numbers = sorted(self.log.receipts[index].claims.log.admission for index in below)
        return named_spans(gaps(numbers, 0, said.admitted - 1))

    def _incomplete(self, epoch: QuotedEpoch) -> str:
        if self._clash:
            return "its leaves make another tree than was signed: see EQUIVOCATION"
        said, below = epoch.statement, self.below(epoch.statement.size)
        lacking = said.completed - below
        earlier = (
            f"complete below size {self.whole.statement.size}, and not " if self.whole else "not "
        ) + f"shown to be complete below size {said.size}: "
        spans = named_spans(missing_leaves(self.indices[:below], self.log.epochs, said.size))
        if lacking > 0:
            return (
                f"{earlier}{lacking} of {counted(said.completed, 'receipt')} {are(lacking)} "
                f"not in the file, among leaves {spans}"
            )
        return (
            f"{earlier}as many receipts are in the file as are counted, {below}, but their tree "
            f"cannot be recomputed without leaves {spans}, which are no receipts"
        )


def _size(epoch: QuotedEpoch) -> tuple[int, int]:
    return epoch.statement.size, epoch.statement.epoch
