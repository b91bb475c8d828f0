"""Is a receipt in the log where it says, and was that state of the log quoted?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.errors import EvidenceError
from attestation.merkle.tlog_proof import (
    parse_tlog_proof,
    verify_checkpoint,
    verify_in_checkpoint,
)
from attestation.merkle.tree import leaf_hash

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence, BundledReceipt
    from attestation.merkle.checkpoint import Checkpoint
    from attestation.merkle.note import Note, Vkey
    from attestation.merkle.tlog_proof import SignedCheckpoint
    from attestation.verifier.epochs import Epochs
    from attestation.verifier.ledger import Page

BOOT_LEAF, RECEIPT_LEAF, EPOCH_LEAF = b"\x00", b"\x01", b"\x02"
"""The first byte of a log entry; 32 bytes of SHA-256 follow."""

_CHECKPOINT_CODES = frozenset({"note_signature", "origin"})
_OPEN = "without it nothing shows that the receipt was not left out, moved or replaced later"
_NOT_INCLUDED = "not made: the receipt was not shown to be in this log"
_OTHER_PROOF = (
    "get the receipt with its proof again; one that the gateway itself gives so is to be kept: the "
    "receipt is then not where its gateway says"
)
_HINT = (
    "get the receipt anchored with GET /v1/receipts/{id}?wait=anchored&format=bundle; one that is "
    "`unanchored-final` never will be, because its boot ended before the log was quoted again; or "
    "accept it openly as it is, [log] require_anchored = false in the policy"
)


def check_inclusion(
    item: BundledReceipt, boot: BootEvidence, epochs: Epochs, page: Page
) -> Checkpoint | None:
    """LOG-INCLUSION, LOG-CHECKPOINT, EPOCH-QUOTE: the receipt is in a quoted state of the log.

    1. the proof leads from the receipt to a checkpoint signed by the log key of its boot
    2. at the index that the receipt names
    3. the checkpoint's text is that of an accepted epoch of the same boot

    Returns the signed checkpoint of steps 1 and 2.
    """
    if item.proof is None:
        skip_inclusion(page)
        return None
    proof = parse_tlog_proof(item.proof)
    entry = leaf_hash(RECEIPT_LEAF + item.receipt.digest.value)
    try:
        signed = _signed_checkpoint(proof.note, boot, epochs)
        verify_in_checkpoint(proof, leaf_hash=entry, checkpoint=signed.checkpoint)
    except EvidenceError as error:
        _refuse(error, page)
        page.skipped("EPOCH-QUOTE", _NOT_INCLUDED)
        return None
    say_signed(signed.note, signed.checkpoint, page)
    if proof.index != item.receipt.claims.log.index:
        page.rejected(
            "LOG-INCLUSION",
            "the proof is for another place in the log",
            expected=f"index {item.receipt.claims.log.index}",
            observed=f"index {proof.index}",
        )
        page.skipped("EPOCH-QUOTE", _NOT_INCLUDED)
        return None
    page.passed("LOG-INCLUSION", f"leaf {proof.index} of {signed.checkpoint.size}")
    _check_anchor(signed.checkpoint.text, boot.statement.bootseed, epochs, page)
    return signed.checkpoint


def _signed_checkpoint(text: str, boot: BootEvidence, epochs: Epochs) -> SignedCheckpoint:
    """Verify a proof's checkpoint once for all receipts of the boot that it anchors."""
    place = (boot.statement.bootseed, text)
    known = epochs.signed.get(place)
    if known is None:
        key = boot.keyset.log_key
        known = verify_checkpoint(text, vkeys=[key], origin=boot.statement.log_origin)
        require_one_signature(known.note, key)
        epochs.signed[place] = known
    return known


def skip_inclusion(page: Page) -> None:
    """Write down that a receipt has no proof, or no log key to check it with."""
    page.skipped("LOG-INCLUSION", f"no inclusion proof could be checked; {_OPEN}", hint=_HINT)
    page.skipped("LOG-CHECKPOINT", "no checkpoint was checked")
    page.skipped("EPOCH-QUOTE", "no checkpoint leads to a quote over the log")


def require_one_signature(note: Note, key: Vkey) -> None:
    """Raise `EvidenceError` unless exactly one line of the note is by this key.

    Ed25519 has one signature for a text, so that a second line would be a second spelling.
    """
    own = [line for line in note.signatures if (line.name, line.key_id) == (key.name, key.key_id)]
    if len(own) != 1:
        raise EvidenceError(
            "the log key has signed the checkpoint more than once",
            code="note_signature",
            expected="one signature by the log",
            observed=f"{len(own)}",
        )


def say_signed(note: Note, checkpoint: Checkpoint, page: Page) -> None:
    """LOG-CHECKPOINT passed; WITNESS says how many others have signed, unchecked."""
    page.passed(
        "LOG-CHECKPOINT", f"signed by {checkpoint.origin}", observed=f"size {checkpoint.size}"
    )
    others = len(note.signatures) - 1
    if others:
        page.info(
            "WITNESS",
            f"{counted(others, 'more signature')} on the checkpoint, which nobody checked",
        )


def _refuse(error: EvidenceError, page: Page) -> None:
    if error.code in _CHECKPOINT_CODES:
        page.refused("LOG-CHECKPOINT", error)
        page.skipped("LOG-INCLUSION", "its checkpoint does not hold")
        return
    page.passed("LOG-CHECKPOINT", "signed by the log key")
    page.refused("LOG-INCLUSION", error, hint=_OTHER_PROOF)


def _check_anchor(text: str, seed: bytes, epochs: Epochs, page: Page) -> None:
    """EPOCH-QUOTE of a receipt: its checkpoint is the one of an accepted epoch of its own boot."""
    anchor = epochs.anchors.get((seed, text))
    if anchor is None:
        page.skipped(
            "EPOCH-QUOTE",
            "no epoch of the receipt's boot in the file is over the proof's checkpoint",
            hint=_HINT,
        )
    elif isinstance(anchor, str):
        page.skipped("EPOCH-QUOTE", anchor)
    else:
        page.passed("EPOCH-QUOTE", f"{anchor.name} of its boot was quoted over this checkpoint")
