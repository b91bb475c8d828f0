"""The sequence of one boot, without I/O: admissions, indices, signatures, tasks, the tree.

    announced ─ seal ─► sequenced (index taken, record to be written) ─ settle ─► retrievable

All methods are synchronous: whoever calls them from one thread has the critical section that
the specification asks for (index, signature and append are one step).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from attestation.encoding.making import maker_of
from attestation.lineage.context import LineageContext
from attestation.receipt.outcome import Outcome, abandoned
from attestation.receipt.payload import Place
from attestation.receipt.seal import receipt_id_in
from gateway.notary.counts import Counts, GrantBook, Mark, saturated
from gateway.notary.entries import Admission, OutcomeRefused, Sequenced
from gateway.notary.interface import SealedReceipt
from gateway.notary.log.database import IndexedEpoch
from gateway.notary.log.folder import boot_folder_name
from gateway.notary.log.leaves import epoch_payload, log_entry, receipt_payload
from gateway.notary.log.segments import Kind, encode_record
from gateway.notary.own_rows import OwnRows
from gateway.notary.repeats import Repeats
from gateway.notary.taken import TakenIds
from gateway.notary.tasks import TaskCounters

if TYPE_CHECKING:
    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.sealer import SignedReceipt
    from gateway.notary.entries import LedgerBoot
    from gateway.notary.interface import Announcement
    from gateway.notary.log.index import ReceiptIndex
    from gateway.notary.log.segments import Location
    from gateway.notary.log.tree import TileTree
    from gateway.notary.tasks import Turn

_sealed = maker_of(SealedReceipt)
_new = tuple.__new__  # a named tuple by its own name takes three times as long
_TWICE = "a receipt id was announced twice"


class Ledger:
    """Numbers and seals.  `wall` gives unix seconds; bounds are in entries."""

    def __init__(
        self,
        boot: LedgerBoot,
        tree: TileTree,
        index: ReceiptIndex,
        *,
        wall: Callable[[], float],
        max_tasks: int,
    ) -> None:
        self._boot = boot
        self._wall = wall
        self._sealer = boot.sealer()
        self._name = boot_folder_name(boot.drawn.bootseed)
        self._tree = tree
        self._running: dict[str, Admission] = {}
        self._sequenced: dict[str, Sequenced] = {}
        self._taken = TakenIds()
        self._index = index
        self._rows = OwnRows(index, self._name)
        self._tasks = TaskCounters(max_tasks)
        self._repeats = Repeats()
        self._grants = GrantBook()
        self._receipts = 0
        self.admitted = 0
        self.unauthenticated = 0
        self.unreceipted = 0

    @property
    def in_flight(self) -> int:
        """How many announced requests have no index yet."""
        return len(self._running)

    def mark(self) -> Mark:
        """Return the state of the log with all leaves so far, durable or not."""
        return Mark(size=self._tree.size, peaks=self._tree.peaks, receipts=self._receipts)

    def counts(self, mark: Mark) -> Counts:
        """Return what an epoch over that state of the log counts, as of this step."""
        return Counts(
            admitted=self.admitted,
            completed=mark.receipts,
            unauthenticated=self.unauthenticated,
            refused_unreceipted=self.unreceipted,
            grants=self._grants.digest(mark.size),
        )

    def open(self) -> bytes:
        """Take index 0 for the boot statement and return its framed record."""
        statement = self._boot.started.evidence.statement
        self._tree.append(log_entry(Kind.BOOT, statement.digest))
        return encode_record(Kind.BOOT, statement.canonical)

    def add_epoch(self, evidence: EpochEvidence) -> tuple[int, bytes]:
        """Take the next index for a quoted epoch; return it and the framed record."""
        frame = encode_record(Kind.EPOCH, epoch_payload(evidence))
        leaf = self._tree.append(log_entry(Kind.EPOCH, evidence.statement.digest))
        return leaf, frame

    def settle_epoch(self, evidence: EpochEvidence, leaf: int, location: Location) -> None:
        """Make an epoch retrievable: its record is durable at this location."""
        statement = evidence.statement
        self._index.add_epoch(
            IndexedEpoch(
                boot=self._name,
                size=statement.size,
                number=statement.epoch,
                segment=location.segment,
                offset=location.offset,
                leaf=leaf,
                digest=statement.digest.value,
            )
        )

    def announce(self, announcement: Announcement) -> None:
        """Give the request the next admission number.

        Raises `ValueError` for a jti that was announced before in this boot, whatever became of
        it: the openings follow from the id.
        """
        jti = announcement.jti
        if not self._taken.take(jti):
            raise ValueError(_TWICE)
        self._running[jti] = _new(Admission, (self.admitted, announcement))
        self.admitted += 1

    def require_new(self, jti: str) -> None:
        """Raise `ValueError` for a jti that was announced before in this boot."""
        if jti in self._taken:
            raise ValueError(_TWICE)

    def count_unauthenticated(self, count: int) -> None:
        """Count requests that no key owns."""
        self.unauthenticated = saturated(self.unauthenticated, count)

    def count_unreceipted(self, count: int) -> None:
        """Count refusals that get no receipt."""
        self.unreceipted = saturated(self.unreceipted, count)

    def seal(self, outcome: Outcome, known: Mapping[str, Digest]) -> Sequenced:
        """Make the receipt of an announced request and take its index.

        `known` is what `known_parents` says of the outcome's parents.

        1. the announcement, which the outcome must agree with
        2. claims, openings, signature, for the index that comes next
        3. the index is taken: leaf, task, counters, record

        Raises `OutcomeRefused` if 1 or 2 fails: the request is still announced then.  What
        fails in 3 is fatal for the boot, and is raised as it is.
        """
        admission = self._require_announced(outcome)
        try:
            turn = self._tasks.next_call(outcome.sub, outcome.lineage.txn)
            number = admission.number
            repeats = self._repeats.repeated_by(outcome, number)
            now, leaf = int(self._wall()), self._tree.size
            place = _new(Place, (now, leaf, number, turn.call, turn.previous, known, repeats))
            signed = self._sealer.seal(outcome, place)
        except Exception as error:  # no index is taken yet: whatever it was, the boot can go on
            raise OutcomeRefused("the outcome makes no receipt") from error
        return self._take_index(outcome, place, turn, signed)

    def abandoned(self, jti: str) -> Outcome:
        """Return the `gateway_failure` of an announced request: nobody is left who knows more."""
        announcement = self._running[jti].announcement
        lineage = announcement.lineage or LineageContext(
            txn=secrets.token_hex(16), span=secrets.token_hex(8)
        )
        return abandoned(
            jti=jti,
            method=announcement.method,
            path=announcement.path,
            sub=announcement.sub,
            grant_digest=announcement.grant_digest,
            lineage=lineage,
        )

    def announced(self, jti: str) -> Announcement | None:
        """Return what was announced under this id, None unless it is not sealed yet."""
        admission = self._running.get(jti)
        return None if admission is None else admission.announcement

    def known_parents(self, sub: Digest, declared: Iterable[str]) -> dict[str, Digest]:
        """Return the digests of those declared parents that are this boot's and this owner's.

        It may read from the disk: never in the step that takes an index.
        """
        found = {}
        for one in declared:
            jti = receipt_id_in(one)
            digest = self._rows.digest_of(jti, sub) if jti else None
            if jti and digest is not None:
                found[jti] = digest
        return found

    def running(self) -> tuple[str, ...]:
        """The ids that are announced and not sealed, in the order of their admission."""
        return tuple(self._running)

    def settle(self, sequenced: Sequenced, location: Location) -> None:
        """Make a receipt retrievable: its record is durable at this location."""
        receipt = sequenced.receipt
        del self._sequenced[receipt.jti]
        self._rows.add(receipt.jti, sequenced.sub, receipt.digest, receipt.index, location)

    def owner_of_running(self, jti: str) -> Digest | None:
        """Return whose request this is, None unless it is announced and not yet durable."""
        if jti in self._running:
            return self._running[jti].announcement.sub
        return self._sequenced[jti].sub if jti in self._sequenced else None

    def _require_announced(self, outcome: Outcome) -> Admission:
        admission = self._running.get(outcome.jti)
        if admission is None:
            raise OutcomeRefused("an outcome was never announced, or is sealed already")
        said = admission.announcement
        if (
            said.method != outcome.method
            or said.path != outcome.path
            or said.sub.value != outcome.sub.value
            or said.grant_digest.value != outcome.grant_digest.value
        ):
            raise OutcomeRefused("an outcome contradicts its announcement")
        return admission

    def _take_index(
        self, outcome: Outcome, place: Place, turn: Turn, signed: SignedReceipt
    ) -> Sequenced:
        token, digest, openings = signed
        self._tree.append(log_entry(Kind.RECEIPT, digest))
        self._receipts += 1
        self._grants.note(outcome.grant_digest, place.leaf)
        self._tasks.note(turn, digest)
        self._repeats.note(outcome, place.admission, digest, linked=place.repeats is not None)
        receipt = _sealed(
            jti=outcome.jti, token=token, openings=openings, index=place.leaf, digest=digest
        )
        record = receipt_payload(bytes.fromhex(outcome.jti), outcome.sub, token)
        frame = encode_record(Kind.RECEIPT, record)
        sequenced = _new(Sequenced, (receipt, outcome.sub, outcome.path, outcome.end, frame))
        del self._running[outcome.jti]
        self._sequenced[outcome.jti] = sequenced
        return sequenced
