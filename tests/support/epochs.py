"""A boot's log with quoted epochs, made by hand: an honest notary that can be steered.

`serve` seals receipts, `announce` admits requests that stay in flight, `quote_epoch` quotes the
log as it stands and anchors what is new.  Everything a forger or a lying gateway would do
differently is a parameter, or a change to the public lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import Bundle, BundledReceipt, EpochEvidence
from attestation.encoding.digest import Digest
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import parse_note, sign_note
from attestation.merkle.tlog_proof import TlogProof, render
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from attestation.policy import Policy
from attestation.result import AttestationResult
from attestation.statement import EpochStatement, PreviousBoot, grants_digest
from attestation.tdx.quote import parse_quote
from gateway.attester.simulated.platform import SimulatedPlatform
from tests.support.bundles import NOW, Exchanged, Gateway

ANCHORED = "require_anchored = true"
COMPLETE = "require_complete = true"


@dataclass(slots=True)
class EpochLog:
    """The log of one boot: 33-byte entries, the epochs quoted so far, requests admitted."""

    made: Gateway
    entries: list[bytes] = field(default_factory=list)
    epochs: list[EpochEvidence] = field(default_factory=list)
    admitted: int = 0
    unauthenticated: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.entries = self.entries or [b"\x00" + self.made.evidence.statement.digest.value]

    # What an honest notary does

    def serve(self, count: int = 1, **changes: Any) -> list[Exchanged]:
        """Seal receipts at the end of the log."""
        served = []
        for _ in range(count):
            context = {"index": len(self.entries), "admission": self.admitted}
            request = b'{"n":%d}' % len(self.entries)
            context |= changes.get("context", {})
            more = {name: value for name, value in changes.items() if name != "context"}
            served.append(self.made.plain(**{"request": request, **more}, context=context))
            self.admitted += 1
            self.entries.append(b"\x01" + served[-1].item.receipt.digest.value)
        return served

    def announce(self, count: int = 1) -> None:
        """Admit requests that are still running."""
        self.admitted += count

    def quote_epoch(self, **steering: Any) -> EpochEvidence:
        """Quote the log, append the statement, and give every new receipt its proof."""
        size = len(self.entries)
        epoch = self.evidence(**steering)
        self.epochs.append(epoch)
        self.entries.append(b"\x02" + epoch.statement.digest.value)
        self.prove(epoch, size)
        return epoch

    # Its parts

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        """Return the log's state at a size, now by default."""
        leaves = self.leaves(size)
        return Checkpoint(origin=self.made.origin, size=len(leaves), root=root_hash(leaves))

    def leaves(self, size: int | None = None) -> list[bytes]:
        """Return the leaf hashes below a size."""
        return [leaf_hash(entry) for entry in self.entries[:size]]

    def note(self, checkpoint: Checkpoint, *, key: Ed25519PrivateKey | None = None) -> str:
        """Return a checkpoint signed by the log key, or by another one under its name."""
        return sign_note(checkpoint.text, self.made.origin, key or self.made.log_key)

    def statement(self, **changes: Any) -> EpochStatement:
        """Return what the boot would state now, with `changes`."""
        checkpoint = changes.pop("checkpoint", None) or self.checkpoint()
        completed = sum(entry[0] == 1 for entry in self.entries[: checkpoint.size])
        before = self.epochs[-1].quote if self.epochs else self.made.evidence.quote
        grants = [e.item.receipt.claims.decision.grant for e in self.made.exchanged]
        statement = EpochStatement(
            bootseed=self.made.bootseed,
            boot_quote_digest=self.made.quote_digest,
            keyset_digest=self.made.keyset.digest,
            epoch=len(self.epochs),
            size=checkpoint.size,
            root=Digest(checkpoint.root),
            checkpoint_digest=Digest.of(checkpoint.text.encode()),
            prev_quote_digest=parse_quote(before).digest,
            grants_digest=grants_digest(grants),
            admitted=self.admitted,
            completed=completed,
            in_flight=self.admitted - completed,
            unauthenticated=self.unauthenticated,
            refused_unreceipted=self.refused,
            time_claimed=NOW + len(self.entries),
        )
        return replace(statement, **changes)

    def evidence(
        self,
        statement: EpochStatement | None = None,
        *,
        note: str | None = None,
        quote: Callable[[bytes], bytes] | None = None,
        **changes: Any,
    ) -> EpochEvidence:
        """Return a quoted epoch; `changes` are of the statement, `quote` makes another quote."""
        stated = statement or self.statement(**changes)
        if note is None:
            checkpoint = Checkpoint(
                origin=self.made.origin, size=stated.size, root=stated.root.value
            )
            note = self.note(checkpoint)
        return EpochEvidence(
            statement=stated,
            quote=(quote or self.quoted)(stated.report_data),
            checkpoint=note,
            collateral=self.made.evidence.collateral,
        )

    def quoted(self, report_data: bytes) -> bytes:
        """Return a quote of the boot's own domain, its key extended into RTMR3."""
        return quoted_by(self.made, report_data)

    def prove(self, epoch: EpochEvidence, size: int, *, again: bool = False) -> None:
        """Give every receipt below `size` that has no proof one in the epoch's checkpoint."""
        leaves = self.leaves(size)
        for place, exchanged in enumerate(self.made.exchanged):
            index = exchanged.item.receipt.claims.log.index
            if index < size and (again or exchanged.item.proof is None):
                proof = proof_of(index, leaves, epoch.checkpoint)
                item = replace(exchanged.item, proof=proof)
                self.made.exchanged[place] = replace(exchanged, item=item)

    # What becomes of it

    @property
    def items(self) -> list[BundledReceipt]:
        """The receipts, with their proofs."""
        return [exchanged.item for exchanged in self.made.exchanged]

    def bundle(self, **changes: Any) -> Bundle:
        """Return the bundle of everything, with `changes`."""
        return self.made.bundle(**{"epochs": self.epochs, **changes})

    def policy(self, log: str = ANCHORED, **changes: str) -> Policy:
        """Return the policy that pins this boot's software and asks for anchored receipts."""
        return self.made.policy(log=log, **changes)

    def verify(self, *, log: str = ANCHORED, **changes: Any) -> AttestationResult:
        """Verify the bundle of everything; parts of the bundle can be changed by name."""
        parts = {
            name: changes.pop(name)
            for name in ("boots", "collateral", "epochs", "receipts")
            if name in changes
        }
        arguments = {"policy": self.policy(log), "bundle": self.bundle(**parts), **changes}
        return self.made.verify(**arguments)


def quoted_by(made: Gateway, report_data: bytes) -> bytes:
    """Return a quote of a boot's domain as it runs: its key events are in RTMR3."""
    log = made.evidence.event_log
    events = log.parse().events if log else ()
    return made.quote(report_data, [event.digest for event in events])


def quoted_on(made: Gateway, platform: SimulatedPlatform) -> Callable[[bytes], bytes]:
    """Return a maker of quotes with the boot's RTMR3 events on another platform or domain."""
    elsewhere = Gateway(seed=made.seed, platform=platform)
    return lambda report_data: quoted_by(elsewhere, report_data)


def proof_of(index: int, leaves: list[bytes], note: str) -> str:
    """Return the tlog-proof of a leaf under a signed checkpoint."""
    path = tuple(inclusion_path(index, leaves))
    return render(TlogProof(extra=None, index=index, path=path, note=note))


def text_of(epoch: EpochEvidence) -> str:
    """Return the note text of an epoch's checkpoint."""
    return parse_note(epoch.checkpoint).text


def continued(log: EpochLog, size: int | None = None, seed: str = "next") -> EpochLog:
    """Return a boot on the same platform that continues a log, at `size` if given."""
    prev = PreviousBoot(
        checkpoint=log.note(log.checkpoint(size)), quote_digest=log.made.quote_digest
    )
    return EpochLog(Gateway(seed=seed, platform=log.made.machine, prev=prev))


def together(*logs: EpochLog, log: str = ANCHORED, **changes: Any) -> AttestationResult:
    """Verify the bundle of several boots' logs by the policy of the first."""
    first = logs[0]
    parts: dict[str, Iterable[Any]] = {
        "boots": [one.made.evidence for one in logs],
        "collateral": [one.made.machine.collateral() for one in logs],
        "epochs": [epoch for one in logs for epoch in one.epochs],
        "receipts": [item for one in logs for item in one.items],
    }
    contents = {jti: known for one in logs for jti, known in one.made.contents().items()}
    return first.verify(**{**parts, "log": log, "contents": contents, **changes})
