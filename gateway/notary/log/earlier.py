"""Receipts of boots that have ended: read from their folders, proved from their logs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, MalformedError, UnavailableError
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from attestation.tdx.quote import parse_quote
from gateway.notary.interface import ReceiptState
from gateway.notary.log.ended import MOST_REREAD, EndedLog
from gateway.notary.log.evidence import load_evidence
from gateway.notary.log.folder import BOOT_FOLDER
from gateway.notary.log.leaves import log_entry, parse_epoch_payload, parse_receipt_payload
from gateway.notary.log.segments import Kind, Location

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.bundle import Bundle, EpochEvidence
    from gateway.notary.files import FileLayer
    from gateway.notary.log.database import IndexedReceipt
    from gateway.notary.log.index import ReceiptIndex

_BOOTS_KEPT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierReceipt:
    """A receipt of an ended boot: anchored, with proof and epoch, or never to be.

    `boot` is the evidence of the boot that issued it, with its endorsements.  There are no
    openings: they ended with the boot.
    """

    jti: str
    token: str
    state: ReceiptState
    proof: str | None
    epoch: EpochEvidence | None
    boot: Bundle


class EarlierBoots:
    """Finds receipts of ended boots.  Methods block; they may be called from any thread."""

    def __init__(
        self,
        layer: FileLayer,
        data_dir: Path,
        index: ReceiptIndex,
        *,
        most_reread: int = MOST_REREAD,
    ) -> None:
        self._most_reread = most_reread
        self._layer = layer
        self._data_dir = data_dir
        self._index = index
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, EndedLog] = OrderedDict()

    def find(self, row: IndexedReceipt) -> EarlierReceipt:
        """Return the receipt that an index row points at; whose it is, is the caller's question.

        1. the record is there, and is this receipt of this owner
        2. the boot's receipt key signed it, with this owner, this boot and this leaf in it
        3. the first epoch that covers the leaf: its checkpoint is signed by the boot's log key,
           its quote reports its statement
        4. the audit path, from tiles or else from segments, leads to that checkpoint's root

        Without an epoch the receipt is `unanchored-final`.  Raises `UnavailableError`: code
        "log_retired" if the segment is no longer kept, "log_tiles_damaged" if the tiles give no
        path and the segments are too long to be read for one, "log_unreadable" if any other of
        this fails.
        """
        with self._lock:
            try:
                return self._find(row)
            except FileNotFoundError as error:
                raise UnavailableError(
                    "the segment of this receipt is no longer kept", code="log_retired"
                ) from error
            except UnavailableError:
                raise
            except (OSError, AttestationError) as error:
                raise UnavailableError(
                    "the log of an ended boot cannot be read", code="log_unreadable"
                ) from error

    def _find(self, row: IndexedReceipt) -> EarlierReceipt:
        log = self._log(row.boot)
        stored = parse_receipt_payload(
            log.segments.record(Location(row.segment, row.offset)).payload
        )
        receipt = parse_receipt(stored.token)
        boot = log.evidence.boot
        verify_receipt_signature(receipt, boot.keyset.receipt_key)
        claims = receipt.claims
        said = (stored.jti, stored.sub.value, claims.jti, claims.bootseed, claims.log.index)
        # Whose it is, is what was signed: the record's own word for it is anybody's.
        owned = claims.subject == stored.sub
        if not owned or said != (
            row.jti,
            row.sub,
            row.jti.hex(),
            boot.statement.bootseed,
            row.leaf,
        ):
            raise MalformedError("a record holds another receipt than the index says")
        epoch = self._epoch(log, row)
        return EarlierReceipt(
            jti=claims.jti,
            token=stored.token,
            state=ReceiptState.UNANCHORED_FINAL if epoch is None else ReceiptState.ANCHORED,
            proof=None if epoch is None else _proof(log, epoch, row.leaf, receipt.digest),
            epoch=epoch,
            boot=log.evidence.bundle,
        )

    def _log(self, name: str) -> EndedLog:
        log = self._logs.pop(name, None)
        if log is None:
            if not BOOT_FOLDER.fullmatch(name):
                raise MalformedError("the index names a boot that is none")
            folder = self._data_dir / name
            evidence = load_evidence(self._layer, folder)
            log = EndedLog(self._layer, folder, evidence, most_reread=self._most_reread)
        self._logs[name] = log
        while len(self._logs) > _BOOTS_KEPT:
            self._logs.popitem(last=False)
        return log

    def _epoch(self, log: EndedLog, row: IndexedReceipt) -> EpochEvidence | None:
        for place in self._index.epochs_covering(row.boot, row.leaf, most=1):
            record = log.segments.record(Location(*place))
            if record.kind is not Kind.EPOCH:
                raise MalformedError("a record holds no epoch, as the index says")
            epoch = parse_epoch_payload(record.payload)
            _require_covering(log, epoch, row.leaf)
            return epoch
        return None


def _require_covering(log: EndedLog, epoch: EpochEvidence, leaf: int) -> None:
    statement = epoch.statement
    checkpoint = log.evidence.verify_note(epoch.checkpoint).checkpoint
    agreed = (
        statement.bootseed == log.evidence.boot.statement.bootseed,
        (statement.size, statement.root.value) == (checkpoint.size, checkpoint.root),
        leaf < statement.size,
        parse_quote(epoch.quote).body.report_data == statement.report_data,
    )
    if not all(agreed):
        raise MalformedError("an epoch of an ended boot contradicts itself")


def _proof(log: EndedLog, epoch: EpochEvidence, leaf: int, digest: Digest) -> str:
    path = log.proved_path(
        entry=log_entry(Kind.RECEIPT, digest),
        index=leaf,
        size=epoch.statement.size,
        root=epoch.statement.root.value,
    )
    return render(TlogProof(extra=None, index=leaf, path=tuple(path), note=epoch.checkpoint))
