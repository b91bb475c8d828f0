"""EPOCH-QUOTE: was this state of the log quoted by the boot that it belongs to?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from attestation.encoding.counts import counted, leaves
from attestation.encoding.digest import Digest
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.checkpoint import parse_checkpoint
from attestation.merkle.note import parse_note, verify_note
from attestation.verifier.appraisal import (
    Appraised,
    Standing,
    appraise_domain,
    collateral_of,
    read_quote,
)
from attestation.verifier.equivocation import SignedState
from attestation.verifier.issued import say_when_issued
from attestation.verifier.ledger import Complaint, unequal
from attestation.verifier.log import require_one_signature, say_signed
from attestation.verifier.running import find_stranger, grounds_of
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attestation.bundle import BootEvidence, Bundle, EpochEvidence
    from attestation.merkle.checkpoint import Checkpoint
    from attestation.merkle.note import Note
    from attestation.merkle.tlog_proof import SignedCheckpoint
    from attestation.statement import EpochStatement
    from attestation.tdx.dcap import GenuineQuote
    from attestation.tdx.quote import Quote
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Ledger, Page

_ID = "EPOCH-QUOTE"
_NO_BOOT_HINT = "merge the boot's evidence in with `attested bundle`"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedEpoch:
    """An epoch whose quote is genuine and speaks for its statement, its boot and its checkpoint.

    `text` is the checkpoint's note text, which is what the log signed.
    """

    statement: EpochStatement
    quote_digest: Digest
    text: str

    @property
    def name(self) -> str:
        """How results call the epoch within its boot."""
        return f"epoch {self.statement.epoch}"

    @property
    def state(self) -> SignedState:
        """The state of the log that was quoted."""
        return SignedState(
            bootseed=self.statement.bootseed,
            size=self.statement.size,
            root=self.statement.root.value,
            source=self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """What became of the epochs of a file.

    `quoted` are those that say something about their log, in the file's order.  `anchors` has by
    bootseed and note text the epoch that receipts may rest on, or why the one that is there does
    not count.  `appraised` are all quotes that were looked at.  `signed` fills up with the
    checkpoints of receipts' proofs that their boots' log keys have signed, by bootseed and note:
    many receipts share one.
    """

    quoted: tuple[QuotedEpoch, ...]
    anchors: Mapping[tuple[bytes, str], QuotedEpoch | str]
    appraised: tuple[Appraised, ...]
    signed: dict[tuple[bytes, str], SignedCheckpoint] = field(default_factory=dict)


def appraise_epochs(
    bundle: Bundle, boots: Mapping[bytes, Appraised], grounds: Grounds, ledger: Ledger
) -> Epochs:
    """Make every check on the epochs of a parsed bundle; `boots` are the appraised ones.

    Each epoch goes through everything its boot's quote goes through, under the boot's root, and
    through LOG-CHECKPOINT and EPOCH-QUOTE.  One whose boot is not in the file stays open.
    """
    quoted: list[QuotedEpoch] = []
    anchors: dict[tuple[bytes, str], QuotedEpoch | str] = {}
    appraised: list[Appraised] = []
    for evidence in bundle.epochs:
        page = ledger.about(epoch_subject(evidence.statement))
        known = boots.get(evidence.statement.bootseed)
        if known is None:
            _lack_boot(evidence, page)
            continue
        desk = _Desk(evidence, known, page)
        appraised.append(desk.appraise(bundle, grounds))
        epoch = desk.quoted()
        quoted += [epoch] if epoch else []
        key = (evidence.statement.bootseed, desk.text)
        if epoch is not None and not page.flaws:
            anchors[key] = epoch
        else:
            anchors.setdefault(key, f"{page.subject} has this checkpoint, but {_why_not(page)}")
    return Epochs(quoted=tuple(quoted), anchors=anchors, appraised=tuple(appraised))


def _why_not(page: Page) -> str:
    flaws = list(dict.fromkeys(page.flaws))
    failed = [id_ for id_ in flaws if id_ in page.failed]
    if failed:
        return f"failed {', '.join(failed)}"
    return f"not everything could be checked: {', '.join(flaws)} not made"


def epoch_subject(statement: EpochStatement) -> str:
    """Return the subject that an epoch's checks are about."""
    return f"epoch {statement.epoch} of boot {statement.bootseed.hex()[:16]}"


def _lack_boot(evidence: EpochEvidence, page: Page) -> None:
    reason = f"the evidence of boot {short(evidence.statement.bootseed)} is not in the file"
    page.lacking(_ID, reason, hint=_NO_BOOT_HINT)
    page.lacking("LOG-CHECKPOINT", reason, hint=_NO_BOOT_HINT)


class _Desk:
    """One epoch with its boot, and the steps of its appraisal."""

    def __init__(self, evidence: EpochEvidence, known: Appraised, page: Page) -> None:
        self.evidence = evidence
        self.statement = evidence.statement
        self.known = known
        self.page = page
        self.text = ""
        self.quote: Quote | None = None

    def appraise(self, bundle: Bundle, grounds: Grounds) -> Appraised:
        """Make every check; the order is that of a boot, with the checkpoint in between."""
        own = grounds_of(self.known, grounds)
        collateral = collateral_of(self.evidence, bundle)
        self.quote, genuine = read_quote(self.evidence.quote, collateral, own, self.page)
        if self.quote is not None:
            say_when_issued(self.quote, collateral, self.statement.time_claimed, own, self.page)
        checkpoint = self._read_checkpoint()
        self._check_quoted(checkpoint, genuine)
        appraise_domain(genuine, self.known.boot, own, self.page)
        if self.statement.gpu_digest is not None:
            self.page.lacking("GPU-BINDING", "GPU evidence: this version does not make this check")
        return replace(self.known, quote=self.quote, genuine=genuine, epoch=self.statement.epoch)

    def quoted(self) -> QuotedEpoch | None:
        """Return the epoch if EPOCH-QUOTE passed."""
        if self.quote is None or _ID in self.page.flaws:
            return None
        return QuotedEpoch(statement=self.statement, quote_digest=self.quote.digest, text=self.text)

    def _read_checkpoint(self) -> Checkpoint | None:
        """LOG-CHECKPOINT: one signature by the boot's log key, over its own log."""
        boot, page = self.known.boot, self.page
        try:
            note = parse_note(self.evidence.checkpoint)
            self.text = note.text
            checkpoint = parse_checkpoint(note.text)
            verify_note(note, [boot.keyset.log_key])
            _require_own(note, checkpoint, boot)
        except (MalformedError, EvidenceError) as error:
            page.refused("LOG-CHECKPOINT", error)
            return None
        say_signed(note, checkpoint, page)
        return checkpoint

    def _check_quoted(self, checkpoint: Checkpoint | None, genuine: GenuineQuote | None) -> None:
        """EPOCH-QUOTE, from what the quote reports to what the statement says of itself."""
        page, boot_quote = self.page, self.known.quote
        if self.quote is None or boot_quote is None:
            page.lacking(_ID, "the epoch's or the boot's quote could not be read")
            return
        complaint = (
            find_stranger("epoch", self.statement, self.quote, self.known, boot_quote)
            or _other_checkpoint(self.statement, checkpoint)
            or _impossible_counters(self.statement)
        )
        if complaint is not None:
            page.contradicted(_ID, complaint)
        elif self.known.standing is Standing.REFUTED:
            page.lacking(_ID, "not made: its boot is refuted, so that anybody may have made it")
        elif genuine is None or checkpoint is None:
            page.lacking(_ID, "not made: it needs a genuine quote and a signed checkpoint")
        else:
            page.passed(_ID, _said(self.statement), observed=f"quote {self.quote.digest}")


def _require_own(note: Note, checkpoint: Checkpoint, boot: BootEvidence) -> None:
    origin, key = boot.statement.log_origin, boot.keyset.log_key
    if checkpoint.origin != origin:
        raise EvidenceError(
            "the checkpoint is of another log",
            code="origin",
            expected=f"a checkpoint about {origin}",
            observed=f"one about {checkpoint.origin}",
        )
    require_one_signature(note, key)


def _other_checkpoint(statement: EpochStatement, checkpoint: Checkpoint | None) -> Complaint | None:
    if checkpoint is None:
        return None
    return unequal(
        "the epoch is about another checkpoint than the one beside it",
        {
            "size": statement.size,
            "root": statement.root.value,
            "checkpoint_digest": statement.checkpoint_digest.value,
        },
        {
            "size": checkpoint.size,
            "root": checkpoint.root,
            "checkpoint_digest": Digest.of(checkpoint.text.encode("utf-8")).value,
        },
    )


def _impossible_counters(statement: EpochStatement) -> Complaint | None:
    accounted = statement.completed + statement.in_flight
    if statement.admitted != accounted:
        return Complaint(
            reason="the epoch's counters do not add up",
            expected=f"admitted = completed + in_flight = {accounted}",
            observed=f"{statement.admitted}",
        )
    if statement.completed >= statement.size:
        return Complaint(
            reason="the epoch counts more receipts than its log has places for",
            expected=f"fewer than {statement.size}: leaf 0 is the boot statement",
            observed=f"{statement.completed}",
        )
    return None


def _said(statement: EpochStatement) -> str:
    return (
        f"quoted by its boot over {leaves(statement.size)}: "
        f"{counted(statement.admitted, 'request')} admitted, "
        f"{statement.completed} completed, {statement.in_flight} in flight"
    )


def epoch_facts(epoch: QuotedEpoch) -> dict[str, object]:
    """Return the plain facts of a quoted epoch that a result shows."""
    said = epoch.statement
    return {
        "bootseed": said.bootseed.hex(),
        "epoch": said.epoch,
        "quote_digest": epoch.quote_digest.hex,
        "size": said.size,
        "root": said.root.hex,
        "admitted": said.admitted,
        "completed": said.completed,
        "in_flight": said.in_flight,
        "unauthenticated": said.unauthenticated,
        "refused_unreceipted": said.refused_unreceipted,
        "time_claimed": said.time_claimed,
    }
