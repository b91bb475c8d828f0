"""The example of docs/spec/log.md, made by the product's own code."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding.digest import Digest
from attestation.log import Leaf, Resources, log_entry
from attestation.merkle.tiles import inclusion_path_from_tiles
from attestation.merkle.tlog_proof import TlogProof, render
from tests.statement.documented import documented as documented_boot
from tests.support.tiled_logs import TiledLog

LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)


@dataclass(frozen=True, kw_only=True)
class Documented:
    log: TiledLog
    proof: str


def documented() -> Documented:
    keyset, statement = documented_boot()
    log = TiledLog(
        entries=[
            log_entry(Leaf.BOOT, statement.digest),
            log_entry(Leaf.RECEIPT, Digest.of(b"the signing input of a receipt")),
            log_entry(Leaf.EPOCH, Digest.of(b"the canonical form of an epoch statement")),
        ],
        origin=statement.log_origin,
        key=LOG_KEY,
    )
    assert log.vkey_text == keyset.log_vkey
    path = inclusion_path_from_tiles(1, 3, Resources(log).read_tile)
    proof = TlogProof(extra=None, index=1, path=tuple(path), note=log.note(3))
    return Documented(log=log, proof=render(proof))
