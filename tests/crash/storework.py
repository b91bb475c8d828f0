"""A small notary without clock, loop or threads: the store, the tree and the export, by hand.

Its trace is the same every time, so a violation found in it can be replayed call by call.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from attestation.bundle import make_bundle
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from gateway.attester.base import QuoteProvider
from gateway.notary.boot import BootPlan, BootSecrets, StartedBoot, start_boot
from gateway.notary.log.export import StaticLog, tile_loader
from gateway.notary.log.folder import LOG, open_data_dir
from gateway.notary.log.leaves import log_entry, receipt_payload
from gateway.notary.log.segments import Kind, encode_record
from gateway.notary.log.store import LogStore
from gateway.notary.log.tree import TileTree
from tests.crash.memory import MemoryLayer
from tests.crash.promises import Released

SUB = Digest.of(b"owner")
SEGMENT_BYTES = 4096


@dataclass(slots=True)
class HandNotary:
    """One boot whose every step is taken by its caller."""

    layer: MemoryLayer
    store: LogStore
    tree: TileTree
    static: StaticLog
    drawn: BootSecrets
    origin: str
    signed: tuple[int, str] = (0, "")
    receipts: int = 0
    _waiting: list[bytes] = field(default_factory=list)

    @property
    def folder(self) -> str:
        return self.store.folder.name

    @classmethod
    def start(cls, layer: MemoryLayer, data_dir: Path, provider: QuoteProvider) -> HandNotary:
        """Boot: evidence, leaf 0, a first checkpoint; then it is ready."""
        drawn = BootSecrets.draw()
        plan = BootPlan(
            name="gw.test", config_digest=SUB, tls_spki=(), not_after=1 << 32, now=1 << 31
        )
        started = start_boot(provider, plan, drawn)
        files = boot_bundle(started)
        open_data_dir(layer, data_dir)
        store = LogStore.create(layer, data_dir, files, drawn.bootseed, SEGMENT_BYTES)
        tree = TileTree(tile_loader(layer, store.folder / LOG))
        statement = started.evidence.statement
        notary = cls(
            layer=layer,
            store=store,
            tree=tree,
            static=StaticLog(layer, store.folder / LOG, tree),
            drawn=drawn,
            origin=statement.log_origin,
        )
        store.append([encode_record(Kind.BOOT, statement.canonical)])
        tree.append(log_entry(Kind.BOOT, statement.digest))
        notary.sign()
        layer.promise("ready", (notary.folder, None))
        return notary

    def seal(self, count: int) -> None:
        """Append `count` receipts as one batch and release them."""
        released, frames = [], []
        for _ in range(count):
            jti = hashlib.sha256(b"%d" % self.receipts).digest()[:16]
            token = f"h.{jti.hex() * 8}.s"
            digest = Digest.of(token.rpartition(".")[0].encode())
            index = self.tree.append(log_entry(Kind.RECEIPT, digest))
            frames.append(encode_record(Kind.RECEIPT, receipt_payload(jti, SUB, token)))
            released.append(
                Released(folder=self.folder, sub=SUB.value, jti=jti.hex(), index=index, token=token)
            )
            self.receipts += 1
        self.store.append(frames)
        for receipt in released:
            self.layer.promise("receipt", receipt)

    def sign(self) -> None:
        """Sign a checkpoint over everything, make it durable, show it."""
        checkpoint = Checkpoint(origin=self.origin, size=self.tree.size, root=self.tree.root)
        note = sign_note(checkpoint.text, self.origin, self.drawn.log_key)
        self.store.append([encode_record(Kind.CHECKPOINT, note.encode())])
        self.signed = (checkpoint.size, note)
        self.layer.promise("checkpoint", (self.folder, note))

    def export(self) -> None:
        self.static.write(*self.signed)


def run(layer: MemoryLayer, data_dir: Path, provider: QuoteProvider) -> HandNotary:
    """A life with rotation, small and large batches, several exports and a full tile."""
    notary = HandNotary.start(layer, data_dir, provider)
    for count in (1, 3, 1):
        notary.seal(count)
    notary.sign()
    notary.export()
    for count in (2, 9, 1, 20):
        notary.seal(count)
        notary.sign()
    notary.export()
    for _ in range(6):
        notary.seal(40)
    notary.sign()
    notary.export()
    notary.seal(2)
    notary.sign()
    notary.seal(1)
    return notary


def boot_bundle(started: StartedBoot) -> dict[str, bytes]:
    """The evidence of a boot, as the notary keeps it in the boot's folder."""
    return {"boot.json": make_bundle(boots=[started.evidence]).encode()}
