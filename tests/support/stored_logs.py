"""Boot folders written by the store itself, out of an honest notary's log made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from attestation.bundle import EpochEvidence, make_bundle
from attestation.encoding.digest import Digest
from attestation.statement import PreviousBoot
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.notary.files import FileLayer
from gateway.notary.log.database import IndexedReceipt
from gateway.notary.log.export import StaticLog, tile_loader
from gateway.notary.log.folder import LOG, SEGMENTS
from gateway.notary.log.leaves import epoch_payload, receipt_payload
from gateway.notary.log.segments import Kind, Location, encode_record
from gateway.notary.log.store import LogStore
from gateway.notary.log.tree import TileTree
from tests.support.bundles import NOW, Exchanged, Gateway
from tests.support.epochs import EpochLog

SMALL = 8_000


@lru_cache(maxsize=1)
def platform() -> SimulatedPlatform:
    """One platform for all: making one takes longer than a test."""
    return SimulatedPlatform(now=NOW, version=4, seed=b"stored logs")


def boot_json(made: Gateway) -> bytes:
    """What a boot folder holds as boot.json."""
    collateral = [made.machine.collateral()]
    return make_bundle(boots=[made.evidence], collateral=collateral).encode()


@dataclass(slots=True)
class StoredLog:
    """One boot's folder as it grows; every call is one durable batch.

    With `owner`, records name that owner, whatever their receipts say.
    """

    data_dir: Path
    seed: str = "a"
    prev: PreviousBoot | None = None
    segment_bytes: int = SMALL
    layer: FileLayer = field(default_factory=FileLayer)
    statement_changes: dict[str, Any] = field(default_factory=dict)
    owner: bytes | None = None
    places: list[Location] = field(default_factory=list)
    receipts: dict[int, Location] = field(default_factory=dict)
    epochs: list[tuple[EpochEvidence, Location, int]] = field(default_factory=list)
    log: EpochLog = field(init=False)
    store: LogStore = field(init=False)
    tree: TileTree = field(init=False)
    static: StaticLog = field(init=False)

    def __post_init__(self) -> None:
        made = Gateway(
            seed=self.seed,
            platform=platform(),
            prev=self.prev,
            statement_changes=self.statement_changes,
        )
        self.log = EpochLog(made)
        if not self.data_dir.exists():
            self.data_dir.mkdir(mode=0o700)
        self.store = LogStore.create(
            self.layer,
            self.data_dir,
            {"boot.json": boot_json(made)},
            made.bootseed,
            self.segment_bytes,
        )
        folder = self.store.folder / LOG
        self.tree = TileTree(tile_loader(self.layer, folder))
        self.static = StaticLog(self.layer, folder, self.tree)

    @property
    def name(self) -> str:
        return self.store.folder.name

    @property
    def folder(self) -> Path:
        return self.store.folder

    @property
    def segments(self) -> list[Path]:
        return sorted((self.folder / SEGMENTS).iterdir())

    def begin(self) -> StoredLog:
        """Write what every boot has that ever served: leaf 0 and a checkpoint over it."""
        self._append(encode_record(Kind.BOOT, self.log.made.evidence.statement.canonical))
        self.checkpoint()
        return self

    def serve(self, count: int = 1) -> list[Exchanged]:
        """Seal receipts, all in one batch."""
        first = len(self.log.entries)
        served = self.log.serve(count)
        frames = []
        for exchanged in served:
            claims = exchanged.item.receipt.claims
            owner = Digest(self.owner) if self.owner else claims.subject
            payload = receipt_payload(
                bytes.fromhex(claims.jti), owner, exchanged.item.receipt.token
            )
            frames.append(encode_record(Kind.RECEIPT, payload))
        for place, location in enumerate(self._append(*frames)):
            self.receipts[first + place] = location
        return served

    def checkpoint(self) -> str:
        """Sign the log as it stands."""
        note = self.log.note(self.log.checkpoint())
        self._append(encode_record(Kind.CHECKPOINT, note.encode()))
        return note

    def epoch(self) -> EpochEvidence:
        """Quote the log as it stands."""
        self.checkpoint()
        leaf = len(self.log.entries)
        epoch = self.log.quote_epoch()
        (location,) = self._append(encode_record(Kind.EPOCH, epoch_payload(epoch)))
        self.epochs.append((epoch, location, leaf))
        return epoch

    def export(self) -> None:
        """Write the static files of the log as it stands."""
        self.static.write(len(self.log.entries), self.log.note(self.log.checkpoint()))

    def row(self, index: int) -> IndexedReceipt:
        """Return the index row of the receipt that is leaf `index`."""
        (receipt,) = (
            item.receipt for item in self.log.items if item.receipt.claims.log.index == index
        )
        location = self.receipts[index]
        return IndexedReceipt(
            jti=bytes.fromhex(receipt.claims.jti),
            boot=self.name,
            segment=location.segment,
            offset=location.offset,
            leaf=index,
            sub=receipt.claims.subject.value,
            digest=receipt.digest.value,
        )

    def successor(self, seed: str = "b", **changes: Any) -> StoredLog:
        """Return a boot in the same data folder that names this one, as it stands."""
        previous = PreviousBoot(
            checkpoint=self.log.note(self.log.checkpoint()),
            quote_digest=self.log.made.quote_digest,
        )
        return StoredLog(self.data_dir, seed=seed, prev=previous, **changes)

    def close(self) -> None:
        self.store.close()

    def _append(self, *frames: bytes) -> list[Location]:
        while self.tree.size < len(self.log.entries):
            self.tree.append(self.log.entries[self.tree.size])
        locations = self.store.append(frames)
        self.places.extend(locations)
        return locations
