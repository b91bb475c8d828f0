"""Inclusion proofs of a boot's receipts, seen to hold before they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import AttestationError, UnavailableError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note
from attestation.merkle.tlog_proof import TlogProof, render, verify_tlog_proof
from attestation.merkle.tree import leaf_hash
from gateway.notary.log.leaves import log_entry
from gateway.notary.log.segments import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.bundle import EpochEvidence
    from attestation.receipt.signing import Receipt
    from attestation.statement import Keyset


def prove_receipt(
    receipt: Receipt,
    epoch: EpochEvidence,
    keyset: Keyset,
    inclusion_path: Callable[[int, int], list[bytes]],
) -> str:
    """Return the tlog-proof text (c2sp.org/tlog-proof@v1) of a receipt against an epoch.

    `inclusion_path(index, size)` reads the boot's tiles.  The proof is verified as a holder
    would: a rotten tile gives `UnavailableError` (code "log_unreadable"), never a wrong proof.
    """
    index, origin = receipt.claims.log.index, receipt.claims.log.origin
    try:
        checkpoint = parse_checkpoint(parse_note(epoch.checkpoint).text)
        proof = TlogProof(
            extra=None,
            index=index,
            path=tuple(inclusion_path(index, checkpoint.size)),
            note=epoch.checkpoint,
        )
        entry = leaf_hash(log_entry(Kind.RECEIPT, receipt.digest))
        verify_tlog_proof(proof, leaf_hash=entry, vkeys=[keyset.log_key], origin=origin)
    except AttestationError as error:
        raise UnavailableError(
            "the log cannot prove this receipt now",
            code="log_unreadable",
            expected="tiles that lead to the epoch's checkpoint",
            hint="look at the disk of notary.data_dir",
        ) from error
    return render(proof)
