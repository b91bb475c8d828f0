"""Logs of hand-made boots in a gateway's data folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from attestation.encoding.digest import Digest
from attestation.log import Leaf, log_entry
from tests.support.bundles import Gateway
from tests.support.tiled_logs import TiledLog


def log_of(gateway: Gateway, more: int = 300) -> TiledLog:
    """The log of a boot: its statement, its receipts, and more receipts of others."""
    entries = [log_entry(Leaf.BOOT, gateway.evidence.statement.digest)]
    entries += [log_entry(Leaf.RECEIPT, e.item.receipt.digest) for e in gateway.exchanged]
    entries += [log_entry(Leaf.RECEIPT, Digest.of(bytes([n % 251, n // 251]))) for n in range(more)]
    return TiledLog(entries=entries, origin=gateway.origin, key=gateway.log_key)


class Boot:
    """A boot's folder in a data folder: `boot.json` and `log/`."""

    def __init__(self, data: Path, gateway: Gateway) -> None:
        self.gateway = gateway
        self.folder = data / gateway.bootseed.hex()[:16]
        (self.folder / "segments").mkdir(parents=True)
        (self.folder / "boot.json").write_bytes(gateway.bundle(receipts=[]).encode())
        self.log = log_of(gateway)
        self.show(self.log)

    def show(self, log: TiledLog) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        log.write(Path(self.path))

    @property
    def path(self) -> str:
        return str(self.folder / "log")
