"""Is a receipt in the log where it says, and does the log tell one story only?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.tlog_proof import parse_tlog_proof, verify_tlog_proof
from attestation.merkle.tree import leaf_hash

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from attestation.bundle import BootEvidence, BundledReceipt
    from attestation.merkle.checkpoint import Checkpoint
    from attestation.receipt.signing import Receipt
    from attestation.verifier.ledger import Page

RECEIPT_LEAF = b"\x01"
_CHECKPOINT_CODES = frozenset({"note_signature", "origin"})
_OPEN = "without it nothing shows that the receipt was not left out, moved or replaced later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A receipt whose signature holds, and the signed checkpoint its proof led to."""

    receipt: Receipt
    checkpoint: Checkpoint | None


def check_inclusion(item: BundledReceipt, boot: BootEvidence, page: Page) -> Checkpoint | None:
    """LOG-INCLUSION, LOG-CHECKPOINT: the proof leads to a checkpoint signed by the log key.

    EPOCH-QUOTE, the quote over that checkpoint, stays open: this version does not make it.
    """
    page.skipped("EPOCH-QUOTE", "no quote over a checkpoint of the log was checked")
    if item.proof is None:
        skip_inclusion(page)
        return None
    proof = parse_tlog_proof(item.proof)
    entry = RECEIPT_LEAF + item.receipt.digest.value
    try:
        logged = verify_tlog_proof(
            proof,
            leaf_hash=leaf_hash(entry),
            vkeys=[boot.keyset.log_key],
            origin=boot.statement.log_origin,
        )
    except EvidenceError as error:
        _refuse(error, page)
        return None
    page.passed(
        "LOG-CHECKPOINT",
        f"signed by {boot.statement.log_origin}",
        observed=f"size {logged.checkpoint.size}",
    )
    if logged.index != item.receipt.claims.log.index:
        page.rejected(
            "LOG-INCLUSION",
            "the proof is for another place in the log",
            expected=f"index {item.receipt.claims.log.index}",
            observed=f"index {logged.index}",
        )
        return None
    page.passed("LOG-INCLUSION", f"leaf {logged.index} of {logged.checkpoint.size}")
    return logged.checkpoint


def skip_inclusion(page: Page) -> None:
    """Write down that a receipt has no proof, or no log key to check it with."""
    page.skipped(
        "LOG-INCLUSION",
        f"no inclusion proof could be checked; {_OPEN}",
        hint="accept it openly in the policy, [log] require_anchored = false (gateways of this "
        "version offer no proofs), or ask the gateway again with ?wait=anchored",
    )
    page.skipped("LOG-CHECKPOINT", "no checkpoint was checked")


def check_equivocation(sealed: Sequence[Sealed], page: Page) -> None:
    """EQUIVOCATION: no two signed receipts or checkpoints contradict each other."""
    clashes = [
        *_clashes("index", ((_place(s), _name(s)) for s in sealed)),
        *_clashes("id", (((_seed(s), s.receipt.claims.jti), _name(s)) for s in sealed)),
        *_clashes("admission", ((_admission(s), _name(s)) for s in sealed)),
        *_clashes("checkpoint", _roots(sealed)),
    ]
    if clashes:
        page.rejected(
            "EQUIVOCATION",
            f"the gateway signed contradicting histories: {clashes[0]}",
            expected="one receipt for each index, id and admission; one root for each size",
            observed=f"{len(clashes)} contradictions",
        )
    elif sealed:
        page.passed("EQUIVOCATION", f"no contradiction among {len(sealed)} signed receipts")
    else:
        page.skipped("EQUIVOCATION", "no receipt whose signature holds to compare")


def _refuse(error: EvidenceError, page: Page) -> None:
    if error.code in _CHECKPOINT_CODES:
        page.refused("LOG-CHECKPOINT", error)
        page.skipped("LOG-INCLUSION", "its checkpoint does not hold")
        return
    page.passed("LOG-CHECKPOINT", "signed by the log key")
    page.refused("LOG-INCLUSION", error)


def _clashes(what: str, claims: Iterable[tuple[Hashable, Hashable]]) -> list[str]:
    seen: dict[Hashable, set[Hashable]] = defaultdict(set)
    for key, value in claims:
        seen[key].add(value)
    return [f"two with one {what}" for values in seen.values() if len(values) > 1]


def _roots(sealed: Iterable[Sealed]) -> Iterable[tuple[Hashable, Hashable]]:
    for item in sealed:
        if item.checkpoint is not None:
            yield (item.checkpoint.origin, item.checkpoint.size), item.checkpoint.root


def _seed(item: Sealed) -> bytes:
    return item.receipt.claims.bootseed


def _place(item: Sealed) -> tuple[bytes, int]:
    return _seed(item), item.receipt.claims.log.index


def _admission(item: Sealed) -> tuple[bytes, int]:
    return _seed(item), item.receipt.claims.log.admission


def _name(item: Sealed) -> bytes:
    return item.receipt.digest.value
