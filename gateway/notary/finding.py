"""Finding receipts: where they are, how far they got, and what proves it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, MalformedError, UnavailableError
from attestation.receipt.seal import receipt_id_in
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from gateway.notary.interface import Found, ReceiptState
from gateway.notary.log.leaves import parse_epoch_payload, parse_receipt_payload
from gateway.notary.log.reader import SlowReader
from gateway.notary.log.segments import Location
from gateway.notary.parts import openings_of
from gateway.notary.proofs import prove_receipt

if TYPE_CHECKING:
    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.signing import Receipt
    from gateway.notary.clock import Clock
    from gateway.notary.interface import Boot
    from gateway.notary.ledger import Ledger
    from gateway.notary.lifetime import Lifetime
    from gateway.notary.log.database import IndexedReceipt
    from gateway.notary.log.earlier import EarlierBoots, EarlierReceipt
    from gateway.notary.log.index import ReceiptIndex
    from gateway.notary.log.store import LogStore
    from gateway.notary.log.tree import TileTree
    from gateway.notary.quotes.epochs import EpochDesk
    from gateway.notary.sequencer import Sequencer

MAX_WAIT_SECONDS = 30.0
_CACHED_EPOCHS = 16
_INDEX_TRIES = 20
_INDEX_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class FinderParts:
    """What a finder looks things up in."""

    boot: Boot
    secret: bytes = field(repr=False)
    ledger: Ledger
    sequencer: Sequencer
    desk: EpochDesk
    index: ReceiptIndex
    earlier: EarlierBoots
    store: LogStore
    tree: TileTree
    lifetime: Lifetime
    clock: Clock


class Finder:
    """Answers about receipts and epochs from the log; keeps the newest epochs in memory."""

    def __init__(self, parts: FinderParts) -> None:
        self._parts = parts
        self._epochs: OrderedDict[int, EpochEvidence] = OrderedDict()
        self._slow = SlowReader()

    async def find(self, receipt_id: str, sub: Digest, wait_seconds: float) -> Found | None:
        """Look up a receipt for its owner; see `Notary.find`."""
        parts = self._parts
        now = parts.clock.monotonic
        deadline = now() + min(wait_seconds, MAX_WAIT_SECONDS)
        jti = receipt_id_in(receipt_id)
        if jti is None:
            return None
        if wait_seconds > 0 and parts.ledger.owner_of_running(jti) == sub:
            await parts.sequencer.wait_sealed(jti, deadline - now())
            parts.lifetime.require_running()
        if (owner := parts.ledger.owner_of_running(jti)) is not None:
            return Found(jti=jti, state=ReceiptState.RUNNING) if owner == sub else None
        row = await self._row(bytes.fromhex(jti))
        if row is None or row.sub != sub.value:
            return None
        if row.boot != parts.store.folder.name:
            return _earlier(await self._slow.run(lambda: parts.earlier.find(row)))
        receipt = await asyncio.to_thread(self._read, row)
        if wait_seconds > 0:
            await parts.desk.wait_anchored(row.leaf, deadline - now())
            parts.lifetime.require_running()
        return await self._found(receipt, parts.desk.book.covering(row.leaf))

    def close(self) -> None:
        """Begin no more reading of ended boots."""
        self._slow.close()

    async def epoch(self, number: int | None) -> EpochEvidence | None:
        """Return an epoch, the newest for None; None if there is no such one."""
        book = self._parts.desk.book
        number = book.count - 1 if number is None else number
        location = book.location(number)
        if location is None:
            return None
        epoch = self._epochs.get(number)
        if epoch is None:
            epoch = await asyncio.to_thread(self._read_epoch, location)
            self._epochs[number] = epoch
            while len(self._epochs) > _CACHED_EPOCHS:
                self._epochs.popitem(last=False)
        return epoch

    async def _row(self, jti: bytes) -> IndexedReceipt | None:
        """Look an id up; directly after a start, wait a little for the index to be complete."""
        for _ in range(_INDEX_TRIES):
            try:
                return await asyncio.to_thread(self._parts.index.get, jti)
            except UnavailableError:
                await asyncio.sleep(_INDEX_PAUSE_SECONDS)
        return await asyncio.to_thread(self._parts.index.get, jti)

    async def _found(self, receipt: Receipt, number: int | None) -> Found:
        parts = self._parts
        claims = receipt.claims
        openings = openings_of(claims, parts.secret)
        epoch = None if number is None else await self.epoch(number)
        if epoch is None:
            return Found(
                jti=claims.jti, state=ReceiptState.SEALED, token=receipt.token, openings=openings
            )
        keyset, path = parts.boot.evidence.keyset, parts.tree.inclusion_path
        proof = await asyncio.to_thread(prove_receipt, receipt, epoch, keyset, path)
        return Found(
            jti=claims.jti,
            state=ReceiptState.ANCHORED,
            token=receipt.token,
            openings=openings,
            proof=proof,
            epoch=epoch,
        )

    def _read(self, row: IndexedReceipt) -> Receipt:
        """Return the receipt that a row points at: signed by this boot, and what the row says.

        Row and record lie on a disk that others can write to.  The openings follow from the id
        in the record alone, so that whoever forged either could have anybody's opened.
        """
        parts = self._parts
        record = parts.store.read(Location(row.segment, row.offset))
        try:
            receipt = parse_receipt(parse_receipt_payload(record.payload).token)
            verify_receipt_signature(receipt, parts.boot.evidence.keyset.receipt_key)
        except (MalformedError, EvidenceError) as error:
            raise _unreadable("receipt") from error
        claims = receipt.claims
        said = (claims.jti, claims.subject.value, claims.log.index)
        if said != (row.jti.hex(), row.sub, row.leaf):
            raise _unreadable("receipt of this id")
        return receipt

    def _read_epoch(self, location: Location) -> EpochEvidence:
        try:
            return parse_epoch_payload(self._parts.store.read(location).payload)
        except MalformedError as error:
            raise _unreadable("epoch") from error


def _earlier(found: EarlierReceipt) -> Found:
    return Found(
        jti=found.jti,
        state=found.state,
        token=found.token,
        proof=found.proof,
        epoch=found.epoch,
        earlier=found.boot,
    )


def _unreadable(what: str) -> UnavailableError:
    return UnavailableError(f"a record of the log is no {what}", code="log_unreadable")
