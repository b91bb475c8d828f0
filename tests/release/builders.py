"""Releases to sign, and packs to check, without a tool that builds file systems."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.cli.measure_inputs import settings_of
from attestation.encoding.digest import Digest
from attestation.measure.boot import UkiBoot
from attestation.measure.hostpart import host_part
from attestation.measure.prediction import Prediction, described
from attestation.measure.tdvf import parse_tdvf
from attestation.measure.tdx import TdxMachine, predict_tdx
from attestation.measure.uki import parse_uki
from attestation.merkle.note import Vkey, parse_vkey
from attestation.merkle.note_key import NoteKey
from attestation.release.dsse import sign_envelope
from attestation.release.gpt import PackLayout
from attestation.release.packs import EngineLock, PackDescription, PackKind, seeds_of
from attestation.release.statement import PAYLOAD_TYPE, Release
from attestation.release.verity import BLOCK_BYTES, Superblock, root_of, split_blocks
from tests.measure import builders

FIRMWARE = builders.firmware()
LOCK = Digest.of(b"a lock")
ENGINE_LOCK = EngineLock(name="vllm", version="0.32.0", files=2, tree=Digest.of(b"tree"))
DISK = builders.gpt()


def key(number: int = 1) -> NoteKey:
    return NoteKey(
        name=f"example.com/release-{number}",
        private=Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)),
    )


def vkeys(*numbers: int) -> list[Vkey]:
    return [parse_vkey(key(number).vkey) for number in numbers or (1,)]


def tree_of(data: bytes) -> tuple[Superblock, bytes, bytes]:
    """Superblock, tree and root over some data."""
    seeds = seeds_of(PackKind.MODEL, LOCK)
    superblock = Superblock(
        uuid=seeds.verity_uuid, data_blocks=len(data) // BLOCK_BYTES, salt=seeds.salt
    )
    root, tree = root_of(superblock, split_blocks(data))
    return superblock, tree, root


def pack_file(data: bytes) -> bytes:
    """A whole pack around data that is no file system."""
    superblock, tree, root = tree_of(data)
    layout = PackLayout(root=root, data_bytes=len(data), verity_bytes=superblock.size)
    file = bytearray(layout.size)
    for place, content in (
        (0, layout.head()),
        (layout.data_start, data),
        (layout.verity_start, superblock.encode() + tree),
        (layout.size - len(layout.tail()), layout.tail()),
    ):
        file[place : place + len(content)] = content
    return bytes(file)


def blocks(count: int) -> bytes:
    return b"".join(bytes([number % 251]) * BLOCK_BYTES for number in range(count))


def description(kind: PackKind = PackKind.MODEL, **changes: Any) -> PackDescription:
    fields: dict[str, Any] = {
        "kind": kind,
        "name": "org/tiny",
        "root": Digest.of(kind.value.encode()),
        "lock": LOCK,
        "digest_of_file": Digest.of(b"pack " + kind.value.encode()),
        "size": 6 << 20,
        "tool": "mkfs.erofs 1.8.6",
    }
    return PackDescription(**(fields | changes))


def uki(command_line: str) -> bytes:
    sections = [
        (name, command_line.encode() if name == ".cmdline" else content)
        for name, content in builders.SECTIONS
    ]
    return builders.uki(sections)


def prediction(image: bytes, **changes: Any) -> Prediction:
    boot = UkiBoot(uki=parse_uki(image), disk=DISK)
    machine = TdxMachine(
        sections=parse_tdvf(FIRMWARE),
        memory=4 << 30,
        boot=boot,
        host=host_part(acpi={}, variables=[], observed=None),
        runtime=(),
    )
    inputs = [described("firmware", FIRMWARE), described("UKI", image), described("disk", DISK)]
    return predict_tdx(machine, inputs, settings_of(boot, 4 << 30) | changes)


def release(
    packs: tuple[PackDescription, ...] = (description(),),
    *,
    version: str = "0.1.0",
    line: str | None = None,
    without: tuple[str, ...] = (),
    settings: Mapping[str, str] | None = None,
) -> Release:
    arguments = " ".join(pack.argument for pack in packs)
    image = uki(f"ro {arguments}".strip() if line is None else line)
    subjects = {
        "OVMF.fd": Digest.of(FIRMWARE),
        "gateway.efi": Digest.of(image),
        "gateway.raw": Digest.of(DISK),
        "sbom.cdx.json": Digest.of(b"sbom"),
    } | {f"{pack.kind.value}.raw": pack.digest_of_file for pack in packs}
    return Release(
        version=version,
        profile="cpu",
        subjects={name: one for name, one in subjects.items() if name not in without},
        measurements={"tdx-4G": prediction(image, **dict(settings or {}))},
        packs=packs,
    )


def signed(made: Release | None = None, *numbers: int) -> bytes:
    keys = [key(number) for number in numbers or (1,)]
    return sign_envelope(PAYLOAD_TYPE, (made or release()).canonical, keys).encode()


def other_uuid() -> uuid.UUID:
    return uuid.UUID(int=7)
