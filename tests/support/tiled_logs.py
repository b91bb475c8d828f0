"""Whole tiled logs, made from entries: every file a log of some size consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import Vkey, parse_vkey, sign_note, vkey_for
from attestation.merkle.tiles import TILE_BYTES, TILE_WIDTH, bundles_of, tile_root, tiles_of
from attestation.merkle.tiles import encode_entry_bundle as bundle_of
from attestation.merkle.tree import Tree, leaf_hash

ORIGIN = "gateway.example/00112233aabbccdd"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)


def gateway_entries(count: int, *, epochs_every: int = 50, salt: bytes = b"") -> list[bytes]:
    """`count` entries as a gateway writes them: the boot, then receipts and some epochs."""
    entries = []
    for index in range(count):
        kind = 0 if index == 0 else 2 if index % epochs_every == 0 else 1
        entries.append(bytes([kind]) + hashlib.sha256(salt + index.to_bytes(8, "big")).digest())
    return entries


@dataclass(kw_only=True)
class TiledLog:
    """One log: its entries and its key.  Also a source that `attestation.log` reads."""

    entries: Sequence[bytes]
    origin: str = ORIGIN
    key: Ed25519PrivateKey = KEY
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.publish(len(self.entries))

    @property
    def vkey_text(self) -> str:
        return vkey_for(self.origin, self.key.public_key().public_bytes_raw())

    @property
    def vkey(self) -> Vkey:
        return parse_vkey(self.vkey_text)

    def checkpoint(self, size: int) -> Checkpoint:
        tree = Tree()
        for entry in self.entries[:size]:
            tree.append(leaf_hash(entry))
        return Checkpoint(origin=self.origin, size=size, root=tree.root)

    def note(self, size: int) -> str:
        return self.sign(self.checkpoint(size))

    def sign(self, checkpoint: Checkpoint) -> str:
        return sign_note(checkpoint.text, self.origin, self.key)

    def publish(self, size: int) -> None:
        """Serve the log at this size: its checkpoint, and every tile and bundle it needs."""
        rows = rows_of(self.entries[:size])
        for tile in tiles_of(size):
            assert tile.level is not None
            start = tile.index * TILE_BYTES
            self.files[tile.path] = rows[tile.level][start : start + tile.width * 32]
        for bundle in bundles_of(size):
            start = bundle.index * TILE_WIDTH
            self.files[bundle.path] = bundle_of(self.entries[start : start + bundle.width])
        self.files["checkpoint"] = self.note(size).encode()

    def drop_partial(self) -> None:
        """Forget every partial tile and bundle, as a log may once the full one exists."""
        for path in [path for path in self.files if ".p/" in path]:
            del self.files[path]

    def flip(self, path: str, position: int = 0) -> None:
        data = self.files[path]
        position %= len(data)
        changed = bytes([data[position] ^ 1])
        self.files[path] = data[:position] + changed + data[position + 1 :]

    def read(self, path: str, *, limit: int) -> bytes | None:
        self.asked.append(path)
        data = self.files.get(path)
        assert data is None or len(data) <= limit
        return data

    def write(self, folder: Path) -> Path:
        """Write every file under `folder`, which then is the log's static directory."""
        for path, data in self.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return folder


def rows_of(entries: Iterable[bytes]) -> list[bytes]:
    """The hashes of every tile level, each row in one piece."""
    rows = [b"".join(map(leaf_hash, entries))]
    while len(rows[-1]) >= TILE_BYTES:
        row = rows[-1]
        starts = range(0, len(row) - TILE_BYTES + 1, TILE_BYTES)
        rows.append(b"".join(tile_root(row[at : at + TILE_BYTES]) for at in starts))
    return rows
