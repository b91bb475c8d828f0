"""C2SP transparency log proofs (c2sp.org/tlog-proof@v1): one entry is in one signed log.

c2sp.org/tlog-proof@v1
extra <base64>                 (may be left out)
index <decimal>
<base64 hash>                  (none or more: the audit path, leaf first)

<signed checkpoint>
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding import base64std
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint, parse_decimal
from attestation.merkle.note import MAX_NOTE_BYTES, Note, Vkey, parse_note, verify_note
from attestation.merkle.tree import HASH_BYTES, verify_inclusion

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = "c2sp.org/tlog-proof@v1"
MAX_EXTRA_BYTES = 1 << 14
MAX_PATH_HASHES = 64
_EXTRA = "extra "
_INDEX = "index "
# 64 hashes of 44 characters and the longest extra line, with room for the other lines.
_MAX_CHARS = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES + MAX_PATH_HASHES * 45


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """A parsed proof; nothing is verified.

    `extra` is not authenticated by anything.  `note` is the text of the signed checkpoint as it
    stands in the proof.
    """

    extra: bytes | None
    index: int
    path: tuple[bytes, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint that the log itself has signed: its note, and who of those asked about did."""

    note: Note
    checkpoint: Checkpoint
    signers: tuple[Vkey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """What a proof proves: the checkpoint that commits to the entry, and who signed it."""

    checkpoint: Checkpoint
    index: int
    signers: tuple[Vkey, ...]


def parse_tlog_proof(text: str) -> TlogProof:
    """Return the parts of a proof.

    At most 64 hashes of canonical base64, an index below 2^64 without leading zeroes, a
    well-formed signed checkpoint of three lines.  Raises `MalformedError`.
    """
    if len(text) > _MAX_CHARS:
        raise _malformed(f"at most {_MAX_CHARS} characters", f"{len(text)}")
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or lines[0] != MAGIC:
        raise _malformed(f"the line {MAGIC} and an empty line before the checkpoint", "neither")
    extra, lines = _split_extra(lines[1:])
    if not lines or not lines[0].startswith(_INDEX):
        raise _malformed("an index line", "another line or none")
    if len(lines) - 1 > MAX_PATH_HASHES:
        raise _malformed(f"at most {MAX_PATH_HASHES} hashes", f"{len(lines) - 1}")
    proof = TlogProof(
        extra=extra,
        index=parse_decimal(lines[0].removeprefix(_INDEX), what="the proof's index"),
        path=tuple(
            base64std.decode(line, what="a hash of the proof", length=HASH_BYTES)
            for line in lines[1:]
        ),
        note=note,
    )
    parse_checkpoint(parse_note(note).text)
    return proof


def render(proof: TlogProof) -> str:
    """Return the text form of a proof; `parse_tlog_proof` of it gives the proof again."""
    lines = [MAGIC]
    if proof.extra is not None:
        lines.append(_EXTRA + base64std.encode(proof.extra))
    lines.append(f"{_INDEX}{proof.index}")
    lines.extend(base64std.encode(node) for node in proof.path)
    return "\n".join(lines) + "\n\n" + proof.note


def verify_tlog_proof(
    proof: TlogProof, *, leaf_hash: bytes, vkeys: Sequence[Vkey], origin: str
) -> LoggedEntry:
    """Check that the log `origin` contains the entry with `leaf_hash` at the proof's index.

    1. The checkpoint's note is signed by a listed key, and no listed key's signature fails.
    2. One of those signers is the log itself: its key name is the origin.
    3. The checkpoint's origin is the one asked for.
    4. The audit path leads from the leaf to the checkpoint's root.

    Raises `EvidenceError`, or `MalformedError` for a proof that was not parsed before.
    """
    signed = verify_checkpoint(proof.note, vkeys=vkeys, origin=origin)
    verify_in_checkpoint(proof, leaf_hash=leaf_hash, checkpoint=signed.checkpoint)
    return LoggedEntry(checkpoint=signed.checkpoint, index=proof.index, signers=signed.signers)


def verify_checkpoint(text: str, *, vkeys: Sequence[Vkey], origin: str) -> SignedCheckpoint:
    """Steps 1 to 3 of `verify_tlog_proof`, for the note `text`, with the same refusals."""
    note = parse_note(text)
    signers = verify_note(note, vkeys)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin or all(signer.name != origin for signer in signers):
        raise EvidenceError(
            "the checkpoint is of another log",
            code="origin",
            expected=f"a checkpoint by and about {origin}",
            observed=f"one about {checkpoint.origin}",
        )
    return SignedCheckpoint(note=note, checkpoint=checkpoint, signers=signers)


def verify_in_checkpoint(proof: TlogProof, *, leaf_hash: bytes, checkpoint: Checkpoint) -> None:
    """Step 4 of `verify_tlog_proof`, for the checkpoint of the proof."""
    verify_inclusion(
        leaf_hash=leaf_hash,
        index=proof.index,
        size=checkpoint.size,
        path=proof.path,
        root=checkpoint.root,
    )


def _split_extra(lines: list[str]) -> tuple[bytes | None, list[str]]:
    if not lines or not lines[0].startswith(_EXTRA):
        return None, lines
    extra = base64std.decode(lines[0].removeprefix(_EXTRA), what="the proof's extra data")
    if len(extra) > MAX_EXTRA_BYTES:
        raise _malformed(f"at most {MAX_EXTRA_BYTES} bytes of extra data", f"{len(extra)}")
    return extra, lines[1:]


def _malformed(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "the proof is malformed", code="tlog_proof", expected=expected, observed=observed
    )
