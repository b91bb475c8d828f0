"""With which key is a log signed, who says so, and what else do they know of the log?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.bundle import parse_evidence, with_endorsements
from attestation.cli.endorsement_files import load_sets
from attestation.cli.files import load_anchors, load_parsed, parse_instant
from attestation.cli.policy_source import policy_from
from attestation.errors import EvidenceError, IncompleteError, UsageError
from attestation.log import Held, Leaf, SignedCheckpoint, log_entry, read_checkpoint
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import Vkey, parse_note, parse_vkey
from attestation.merkle.tlog_proof import parse_tlog_proof
from attestation.verifier import verify, verify_boots

if TYPE_CHECKING:
    import argparse

    from attestation.bundle import BootEvidence, Bundle
    from attestation.cli.log_folder import Place
    from attestation.result import AttestationResult

ARGUMENT, BUNDLE, BESIDE = "argument", "bundle", "boot"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """The key a log is checked with.

    `source` says where it comes from: the command line, a bundle that was given, or the boot's
    evidence beside the log.  `result` is what the pipeline said about the bundle's quotes, None
    if nobody asked.  `held` is what the bundle knows of this log, `previous` the checkpoint of
    the boot before.
    """

    vkey: Vkey
    source: str
    result: AttestationResult | None = None
    held: Held = field(default_factory=Held)
    previous: str | None = None


def find_key(args: argparse.Namespace, place: Place, note: bytes) -> LogKey:
    """Return the key for the log whose checkpoint is `note`: --vkey, --bundle, or found beside it.

    With --policy, --root, --at or --endorsements the bundle goes through the verifier's pipeline.
    Raises `UsageError` if there is nothing to take a key from.  If no boot has this log (code
    "origin"), a bundle that was given is about other logs and says nothing against this one
    (`IncompleteError`); evidence that stands beside the log belongs to it and contradicts it
    (`EvidenceError`).
    """
    if args.vkey is not None:
        return LogKey(vkey=parse_vkey(args.vkey), source=ARGUMENT)
    if args.bundle is not None:
        bundle: Bundle | None = load_parsed(args.bundle, parse_evidence)
        source = BUNDLE
    else:
        bundle, source = place.load_boot(), BESIDE
    if bundle is None:
        raise UsageError(
            "nothing says which key the log is signed with",
            code="vkey",
            expected="--vkey, --bundle with the boot's evidence, or boot.json beside the log",
        )
    boot = _boot_of(bundle, source, note)
    previous = boot.statement.prev
    return LogKey(
        vkey=boot.keyset.log_key,
        source=source,
        result=_verified(args, bundle),
        held=held_of(bundle, boot),
        previous=None if previous is None else previous.checkpoint,
    )


def held_of(bundle: Bundle, boot: BootEvidence) -> Held:
    """Return what a bundle knows of one boot's log: checkpoints of epochs and proofs, entries.

    Raises `EvidenceError` for a checkpoint that the log has not signed.
    """
    bootseed, vkey = boot.statement.bootseed, boot.keyset.log_key
    receipts = [item for item in bundle.receipts if item.receipt.claims.bootseed == bootseed]
    notes = [epoch.checkpoint for epoch in bundle.epochs if epoch.statement.bootseed == bootseed]
    notes += [parse_tlog_proof(item.proof).note for item in receipts if item.proof is not None]
    entries = [(0, log_entry(Leaf.BOOT, boot.statement.digest))]
    entries += [
        (item.receipt.claims.log.index, log_entry(Leaf.RECEIPT, item.receipt.digest))
        for item in receipts
    ]
    return Held(checkpoints=_distinct(notes, vkey), entries=tuple(entries))


def _distinct(notes: list[str], vkey: Vkey) -> tuple[SignedCheckpoint, ...]:
    """Many receipts share one epoch's checkpoint, which is checked once."""
    return tuple(read_checkpoint(note, vkey) for note in dict.fromkeys(notes))


def _boot_of(bundle: Bundle, source: str, note: bytes) -> BootEvidence:
    origin = parse_checkpoint(parse_note(note).text).origin
    for boot in bundle.boots:
        if boot.keyset.log_key.name == origin:
            return boot
    kind = IncompleteError if source == BUNDLE else EvidenceError
    raise kind(
        "INCOMPLETE: the bundle is about other logs, so this one was not checked"
        if source == BUNDLE
        else "the boot beside the log is not the log's",
        code="origin",
        expected=f"the evidence of the boot whose log is {origin}",
        observed="boots of " + (", ".join(b.keyset.log_key.name for b in bundle.boots) or "none"),
        hint="every start of a gateway has a log of its own: get the evidence of this one",
    )


def _verified(args: argparse.Namespace, bundle: Bundle) -> AttestationResult | None:
    if not (args.policy or args.policy_signer or args.root or args.at or args.endorsements):
        return None
    at = parse_instant(args.at)
    policy, anchors = policy_from(args), load_anchors(args.root)
    whole = with_endorsements(bundle, load_sets(args.endorsements or (), at, anchors))
    if whole.receipts:
        return verify(whole, policy, at, anchors, {})
    return verify_boots(whole, policy, at, anchors)
