"""Parsers of what a release consists of: packs, their tables and trees, signed statements."""

from __future__ import annotations

from attestation.errors import EvidenceError
from attestation.release.dsse import parse_envelope
from attestation.release.gpt import HEAD_BYTES, parse_head
from attestation.release.packs import PackKind, parse_engine_lock, parse_pack_description, roots_on
from attestation.release.statement import parse_release
from attestation.release.verity import BLOCK_BYTES, parse_superblock
from tests.release import builders


def run_superblock(data: bytes) -> None:
    superblock = parse_superblock(data.ljust(BLOCK_BYTES, b"\0"))
    assert superblock.encode().startswith(data)
    assert superblock.size < superblock.data_blocks * BLOCK_BYTES // 100 + 12 * BLOCK_BYTES


def superblocks() -> list[bytes]:
    return [builders.tree_of(builders.blocks(count))[0].encode()[:512] for count in (1, 300)]


def run_table(data: bytes) -> None:
    layout = parse_head(data.ljust(HEAD_BYTES, b"\0"))
    assert layout.head().startswith(data)
    assert layout.tail()


def tables() -> list[bytes]:
    return [builders.pack_file(builders.blocks(3))[:2048]]


def run_description(data: bytes) -> None:
    assert parse_pack_description(data).canonical == data


def descriptions() -> list[bytes]:
    return [builders.description(kind).canonical for kind in PackKind]


def run_engine_lock(data: bytes) -> None:
    assert parse_engine_lock(data).canonical == data


def engine_locks() -> list[bytes]:
    return [builders.ENGINE_LOCK.canonical]


def run_command_line(data: bytes) -> None:
    for root in roots_on(data.decode("utf-8", "replace")).values():
        assert root.hex.encode() in data


def command_lines() -> list[bytes]:
    packs = [builders.description(kind) for kind in PackKind]
    return [" ".join(["ro", *(pack.argument for pack in packs)]).encode()]


def run_envelope(data: bytes) -> None:
    assert parse_envelope(data).encode() == data


def envelopes() -> list[bytes]:
    return [builders.signed()]


def run_release(data: bytes) -> None:
    try:
        release = parse_release(data)
    except EvidenceError:
        return
    assert release.canonical == data


def releases() -> list[bytes]:
    return [builders.release().canonical]
