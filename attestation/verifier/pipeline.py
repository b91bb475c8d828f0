"""The one pipeline: from a bundle and the grounds of the verifier to an `AttestationResult`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.policy import NO_POLICY, Policy
from attestation.result import AttestationResult
from attestation.verifier import events, quotes, receipts
from attestation.verifier.appraisal import (
    FILE,
    Appraised,
    Standing,
    appraise_boots,
    appraise_quote,
    boot_name,
    conclude,
    quote_facts,
)
from attestation.verifier.audit import audit_logs
from attestation.verifier.bodies import check_bodies
from attestation.verifier.bootchain import check_boot_chain
from attestation.verifier.chain import check_epoch_chains
from attestation.verifier.contents import NOTHING, Contents
from attestation.verifier.epochs import appraise_epochs, epoch_facts
from attestation.verifier.equivocation import (
    Sealed,
    check_equivocation,
    find_contradictions,
    states_of,
)
from attestation.verifier.grounds import Grounds
from attestation.verifier.ledger import Ledger
from attestation.verifier.log import check_inclusion, skip_inclusion
from attestation.verifier.model import check_receipt_model
from attestation.verifier.notes import not_proved
from attestation.verifier.scopes import BOOT_SCOPE, QUOTE_SCOPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.bundle import Bundle, BundledReceipt
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.verifier.epochs import Epochs
    from attestation.verifier.equivocation import SignedState
    from attestation.verifier.high_water import HighWater
    from attestation.verifier.memory import QuoteMemory

_LATER = "this version does not make this check"
_NO_QUOTE = "anything: the file is not a quote, so nothing in it was checked"
_DAMAGED = "the file may be damaged, cut short, or no bundle: get it again from where it came from"


def verify(
    bundle: Bundle,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
    contents: Mapping[str, Contents],
    *,
    high_water: HighWater | None = None,
    quotes: QuoteMemory | None = None,
) -> AttestationResult:
    """Return what `bundle` proves at the instant `at` (Unix seconds) under `anchors`.

    1. every boot: quote format, genuine, endorsements, TCB, attributes, module, measurements,
       event log, platform, statement, keyset
    2. every epoch: its quote by the same checks, that it speaks for this boot and this checkpoint
    3. the boots among each other
    4. every receipt: format, signature, binding to one boot, nonce, channel, bodies, model
    5. every receipt's place in the log, and the epoch that was quoted over it
    6. the epochs of each boot among each other, and whether receipts of theirs are missing
    7. everything that was signed or quoted among each other
    8. whatever else is in the file, or was given beside it, and that no check covered
    9. every required check that nothing above has made

    `policy` None is the floor with its defaults: at best INCOMPLETE.  `contents` are the bodies,
    nonces and channel keys known beside the bundle, by receipt id; bodies of a receipt that is
    not in the bundle make the result INCOMPLETE.  `high_water` is what was seen of endorsements
    before; what this verification saw of them is in the result.  `quotes` carries genuine quotes
    from one file to the next.  Raises `UsageError` for no anchor
    or an instant outside 1970-9999; everything about the evidence is in the result.
    """
    grounds = Grounds(
        policy=policy or NO_POLICY,
        at=at,
        anchors=tuple(anchors),
        high_water=high_water,
        quotes=quotes,
    )
    ledger = Ledger(grounds.policy.required)
    appraised = appraise_boots(bundle, grounds, ledger)
    epochs = appraise_epochs(bundle, appraised, grounds, ledger)
    continued = check_boot_chain(appraised.values(), epochs.quoted, ledger)
    sealed = _receipts(bundle, appraised, epochs, contents, ledger)
    check_epoch_chains(epochs.quoted, ledger)
    _compare(bundle, sealed, epochs, continued, grounds, ledger)
    _uncovered(bundle, contents, ledger)
    ledger.close(FILE)
    return conclude(
        ledger,
        grounds,
        (*appraised.values(), *epochs.appraised),
        epochs=[epoch_facts(epoch) for epoch in epochs.quoted],
        receipts=[
            receipts.receipt_facts(item.receipt, contents.get(item.jti, NOTHING).model_lock)
            for item in bundle.receipts
        ],
    )


def verify_boots(
    bundle: Bundle,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
    *,
    high_water: HighWater | None = None,
) -> AttestationResult:
    """Return what the boots of `bundle` prove, before there is any receipt.

    Steps 1, 3 and 9 of `verify`; what epochs, receipts and the log have to pass is not asked for.
    """
    grounds = Grounds(
        policy=policy or NO_POLICY, at=at, anchors=tuple(anchors), high_water=high_water
    )
    ledger = Ledger(grounds.policy.required & BOOT_SCOPE)
    appraised = appraise_boots(bundle, grounds, ledger)
    check_boot_chain(appraised.values(), (), ledger)
    ledger.close(FILE)
    return conclude(ledger, grounds, tuple(appraised.values()), epochs=[], receipts=[])


def verify_raw_quote(
    data: bytes,
    collateral: Collateral | None,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
    *,
    high_water: HighWater | None = None,
) -> AttestationResult:
    """Return what one quote proves by itself, in any form a platform hands it out.

    The quote part of step 1 of `verify`, by the same checks.
    """
    grounds = Grounds(
        policy=policy or NO_POLICY, at=at, anchors=tuple(anchors), high_water=high_water
    )
    ledger = Ledger(grounds.policy.required & QUOTE_SCOPE)
    page = ledger.about("quote")
    quote = quotes.parse_raw_quote(data, page)
    genuine = None
    if quote is not None:
        anchor = quotes.anchor_for(quote, grounds.anchors)
        genuine = quotes.verify_genuine(quote, collateral, grounds, anchor, page)
    if genuine is not None:
        agreeing = appraise_quote(genuine, None, grounds, page)
        events.check_lone_quote(agreeing, page)
    else:
        quotes.skip_dependents(page)
    ledger.close("quote")
    domains = quotes.domains_of([(quote, genuine)], grounds.anchors)
    left_open = not_proved(ledger.checks, grounds.policy, domains)
    return AttestationResult(
        checks=ledger.checks,
        at=at,
        policy_digest=grounds.policy.digest,
        policy_version=grounds.policy.version,
        policy_signers=grounds.policy.signers,
        trust_domains=domains,
        not_proved=(_NO_QUOTE,) if quote is None else left_open,
        facts={"quotes": [quote_facts(quote, genuine)] if quote else []},
        endorsed=(genuine.endorsed,) if genuine else (),
    )


def malformed_result(error: MalformedError, policy: Policy | None, at: int) -> AttestationResult:
    """Return the result for a file that does not parse: BUNDLE failed, nothing else was made."""
    ledger = Ledger(NO_POLICY.required)
    ledger.about(FILE).refused("BUNDLE", error, hint=error.hint or _DAMAGED)
    return AttestationResult(
        checks=ledger.checks,
        at=at,
        policy_digest=policy.digest if policy else None,
        policy_version=policy.version if policy else None,
        policy_signers=policy.signers if policy else (),
        trust_domains=frozenset(),
        not_proved=("anything: the file is not a bundle, so nothing in it was checked",),
    )


def _receipts(
    bundle: Bundle,
    appraised: Mapping[bytes, Appraised],
    epochs: Epochs,
    contents: Mapping[str, Contents],
    ledger: Ledger,
) -> list[Sealed]:
    """Make every check on every receipt; return those that can be evidence."""
    made = (
        _receipt(item, appraised, epochs, contents.get(item.jti, NOTHING), ledger)
        for item in bundle.receipts
    )
    return [one for one in made if one]


def _compare(
    bundle: Bundle,
    sealed: Sequence[Sealed],
    epochs: Epochs,
    continued: Sequence[SignedState],
    grounds: Grounds,
    ledger: Ledger,
) -> None:
    """Audit every log, and hold everything that was signed or quoted against each other."""
    states = [*(epoch.state for epoch in epochs.quoted), *continued, *states_of(sealed)]
    contradictions = [
        *find_contradictions(sealed, epochs.quoted, states),
        *audit_logs(
            bundle.boots,
            sealed,
            epochs.quoted,
            states,
            ledger,
            demanded=grounds.policy.require_complete,
        ),
    ]
    check_equivocation(contradictions, len(sealed) + len(states), ledger.about(FILE))


def _receipt(
    item: BundledReceipt,
    appraised: Mapping[bytes, Appraised],
    epochs: Epochs,
    contents: Contents,
    ledger: Ledger,
) -> Sealed | None:
    """Make every check on one receipt; return it if it can be evidence against its gateway."""
    receipt, claims = item.receipt, item.receipt.claims
    page = ledger.about(f"receipt {item.jti}")
    page.passed("RECEIPT-FORMAT", "canonical, closed claims", observed=receipts.summary(claims))
    known = appraised.get(claims.bootseed)
    counts, checkpoint = False, None
    if known is None:
        receipts.check_without_boot(receipt, page)
    else:
        signed = receipts.check_signature(receipt, known.boot, page)
        # Under a refuted boot anybody signs: no such receipt says what the gateway signed.
        counts = signed and known.standing is not Standing.REFUTED
        receipts.check_binding(receipt, known.boot, known.quote, page)
        receipts.check_channel(known.boot, contents, page)
        check_receipt_model(claims, known, contents.model_lock, page)
    receipts.check_nonce(claims, contents, page)
    check_bodies(item, contents, page)
    if known is None:
        skip_inclusion(page)
    else:
        checkpoint = check_inclusion(item, known.boot, epochs, page)
    return Sealed(receipt=receipt, checkpoint=checkpoint) if counts else None


def _uncovered(bundle: Bundle, contents: Mapping[str, Contents], ledger: Ledger) -> None:
    """Name what the file holds and no check covers: it must not ride along with a verdict."""
    if bundle.tasks:
        ledger.about(FILE).lacking("LINEAGE-COMPLETE", f"task records: {_LATER}")
    for boot in bundle.boots:
        if boot.gpu or boot.statement.gpu_digest:
            page = ledger.about(boot_name(boot))
            for id_ in ("GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"):
                page.lacking(id_, f"GPU evidence: {_LATER}")
    known = {item.jti for item in bundle.receipts}
    for jti in sorted(contents.keys() - known):
        ledger.about(f"receipt {jti}").lacking(
            "RECEIPT-FORMAT",
            "this receipt was asked about, but it is not in the file",
            hint="`attested inspect FILE` lists the receipts of a file",
        )
