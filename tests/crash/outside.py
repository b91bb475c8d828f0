"""A boot folder as an outsider reads it: from the format's description, not with the store's code.

Only what is released to the world is used here: framing, SHA-256, RFC 6962, signed notes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from attestation.bundle import parse_bundle
from attestation.bundle.model import BootEvidence
from attestation.errors import AttestationError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint
from attestation.merkle.note import Vkey, parse_note, verify_note
from attestation.merkle.tree import Tree, leaf_hash
from attestation.statement.parse import parse_statement
from attestation.statement.running import EpochStatement
from attestation.tdx.quote import parse_quote

MAGIC = b"attested-gateway/segment/1\n"
HEADER, CHECKPOINT, BATCH = 0xF0, 0xC0, 0xB0
BOOT, RECEIPT, EPOCH = 0x00, 0x01, 0x02
JTI_BYTES, SUB_BYTES = 16, 32


class Violation(AssertionError):  # noqa: N818 - what it is, not what failed
    """A promise was broken: which, and what was seen instead."""

    def __init__(self, rule: str, seen: str) -> None:
        super().__init__(f"{rule}: {seen}")
        self.rule = rule


def require(holds: bool, rule: str, seen: str) -> None:
    if not holds:
        raise Violation(rule, seen)


@dataclass(slots=True, kw_only=True)
class Boot:
    """What the segments of one boot hold, read up to the first byte that is not whole.

    `entries` are the 33-byte log entries in order; `receipts` the tokens by leaf index; `notes`
    the verified checkpoints in the order in which they stand, each with the number of leaves that
    stood before it; `whole` is False if bytes followed that make no record.
    """

    evidence: BootEvidence
    vkey: Vkey
    quote_digest: bytes
    entries: list[bytes] = field(default_factory=list)
    receipts: dict[int, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    epochs: list[EpochStatement] = field(default_factory=list)
    notes: list[tuple[Checkpoint, int, str]] = field(default_factory=list)
    batches: int = 0
    whole: bool = True

    @property
    def origin(self) -> str:
        return self.evidence.statement.log_origin

    def root(self, size: int) -> bytes:
        """The RFC 6962 root over the first `size` entries."""
        tree = Tree()
        for entry in self.entries[:size]:
            tree.append(leaf_hash(entry))
        return tree.root


def read_boot(files: dict[str, bytes]) -> Boot | None:
    """Read one boot folder ("boot.json", "segments/000000.seg"…); None if it holds no evidence.

    Raises `Violation` for what no crash explains: a record out of place, a note that does not
    verify, one that covers leaves which do not stand before it, or that names another root.
    """
    boot = _open(files)
    if boot is None:
        return None
    last, expected = bytes(32), 0
    names = sorted(name for name in files if name.startswith("segments/"))
    for number, name in enumerate(names):
        require(name == f"segments/{number:06}.seg", "segments are numbered", name)
        require(boot.whole, "only the last segment ends in a tear", name)
        last, expected = _read_segment(boot, files[name], number, last, expected)
    _check_notes(boot)
    return boot


def _open(files: dict[str, bytes]) -> Boot | None:
    try:
        evidence = parse_bundle(files["boot.json"]).boots[0]
    except (KeyError, AttestationError):
        return None
    return Boot(
        evidence=evidence,
        vkey=evidence.keyset.log_key,
        quote_digest=parse_quote(evidence.quote).digest.value,
    )


def _read_segment(
    boot: Boot, data: bytes, number: int, last: bytes, first: int
) -> tuple[bytes, int]:
    if not data.startswith(MAGIC):
        boot.whole = False
        return last, first
    offset, opened = len(MAGIC), False
    while offset < len(data):
        frame = _frame_at(data, offset)
        if frame is None:
            boot.whole = False
            break
        if opened:
            _take(boot, frame[4], frame[5:-8])
        else:
            _check_header(boot, frame, (number, len(boot.entries), last))
            opened = True
        last, offset = hashlib.sha256(frame).digest(), offset + len(frame)
    boot.whole = boot.whole and opened
    return last, len(boot.entries)


def _frame_at(data: bytes, offset: int) -> bytes | None:
    length = int.from_bytes(data[offset : offset + 4], "big")
    frame = data[offset : offset + 4 + 1 + length + 8]
    if len(frame) < 13 + length or hashlib.sha256(frame[:-8]).digest()[:8] != frame[-8:]:
        return None
    return frame


def _check_header(boot: Boot, frame: bytes, place: tuple[int, int, bytes]) -> None:
    number, first, last = place
    seed = boot.evidence.statement.bootseed
    expected = seed + number.to_bytes(4, "big") + first.to_bytes(8, "big") + last
    require(frame[4] == HEADER and frame[5:-8] == expected, "a segment says its place", frame.hex())


def _take(boot: Boot, kind: int, payload: bytes) -> None:
    index = len(boot.entries)
    if kind == BATCH:
        require(int.from_bytes(payload, "big") == boot.batches, "batches count", payload.hex())
        boot.batches += 1
        return
    if kind == CHECKPOINT:
        note = parse_note(payload)
        verify_note(note, [boot.vkey])
        boot.notes.append((parse_checkpoint(note.text), index, payload.decode()))
        return
    if kind == RECEIPT:
        token = payload[JTI_BYTES + SUB_BYTES :].decode("ascii")
        boot.receipts[index] = token
        jti = payload[:JTI_BYTES].hex()
        require(jti not in boot.ids, "a receipt id has one leaf", jti)
        boot.ids[jti] = index
        digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
    elif kind == EPOCH:
        epoch = parse_statement(json.loads(payload)["statement"])
        require(isinstance(epoch, EpochStatement), "an epoch record holds one", str(epoch))
        assert isinstance(epoch, EpochStatement)
        boot.epochs.append(epoch)
        digest = epoch.digest.value
    else:
        require(kind == BOOT and index == 0, "leaf 0 is the boot, alone", f"{kind} at {index}")
        require(payload == boot.evidence.statement.canonical, "leaf 0 is this boot", "another")
        digest = hashlib.sha256(payload).digest()
    boot.entries.append(bytes([kind]) + digest)


def _check_notes(boot: Boot) -> None:
    """Signed sizes never shrink, cover only leaves that stand before them, and name their root."""
    tree, at, before = Tree(), 0, 0
    for checkpoint, standing, _ in boot.notes:
        require(before <= checkpoint.size <= standing, "a note covers older leaves", str(standing))
        for entry in boot.entries[at : checkpoint.size]:
            tree.append(leaf_hash(entry))
        at = before = checkpoint.size
        require(checkpoint.root == tree.root, "a note names the root", f"size {checkpoint.size}")
        require(checkpoint.origin == boot.origin, "a note names its log", checkpoint.origin)
