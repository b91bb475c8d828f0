"""The one pipeline: from a bundle and the grounds of the verifier to an `AttestationResult`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.policy import NO_POLICY, Policy
from attestation.result import AttestationResult
from attestation.verifier import events, platform, receipts
from attestation.verifier.appraisal import (
    FILE,
    Appraised,
    appraise_boots,
    appraise_quote,
    boot_name,
    conclude,
    quote_facts,
)
from attestation.verifier.bodies import check_bodies
from attestation.verifier.contents import NOTHING, Contents
from attestation.verifier.ledger import Ledger
from attestation.verifier.log import Sealed, check_equivocation, check_inclusion, skip_inclusion
from attestation.verifier.notes import not_proved
from attestation.verifier.platform import Grounds
from attestation.verifier.scopes import BOOT_SCOPE, QUOTE_SCOPE
from attestation.verifier.words import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attestation.bundle import Bundle, BundledReceipt
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral

_LATER = "this version does not make this check"


def verify(
    bundle: Bundle,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
    contents: Mapping[str, Contents],
) -> AttestationResult:
    """Return what `bundle` proves at the instant `at` (Unix seconds) under `anchors`.

    1. every boot: quote format, genuine, endorsements, TCB, attributes, module, measurements,
       event log, platform, statement, keyset
    2. the boots among each other
    3. every receipt: format, signature, binding to one boot, nonce, channel, bodies, model
    4. every receipt's place in the log
    5. the receipts among each other
    6. whatever else is in the file, or was given beside it, and that no check covered
    7. every required check that nothing above has made

    `policy` None is the floor with its defaults: at best INCOMPLETE.  `contents` are the bodies,
    nonces and channel keys known beside the bundle, by receipt id; bodies of a receipt that is
    not in the bundle make the result INCOMPLETE.  Raises `UsageError` for no anchor or an
    instant outside 1970-9999; everything about the evidence is in the result.
    """
    grounds = Grounds(policy=policy or NO_POLICY, at=at, anchors=tuple(anchors))
    ledger = Ledger(grounds.policy.required)
    appraised = appraise_boots(bundle, grounds, ledger)
    sealed = [
        one
        for item in bundle.receipts
        if (one := _receipt(item, appraised, contents.get(item.jti, NOTHING), ledger))
    ]
    check_equivocation(sealed, ledger.about(FILE))
    _uncovered(bundle, contents, ledger)
    ledger.close(FILE)
    shown = [receipts.receipt_facts(item.receipt) for item in bundle.receipts]
    return conclude(ledger, grounds, tuple(appraised.values()), receipts=shown)


def verify_boots(
    bundle: Bundle, policy: Policy | None, at: int, anchors: Sequence[Anchor]
) -> AttestationResult:
    """Return what the boots of `bundle` prove, before there is any receipt.

    Steps 1, 2 and 7 of `verify`; what receipts and the log have to pass is not asked for.
    """
    grounds = Grounds(policy=policy or NO_POLICY, at=at, anchors=tuple(anchors))
    ledger = Ledger(grounds.policy.required & BOOT_SCOPE)
    appraised = appraise_boots(bundle, grounds, ledger)
    ledger.close(FILE)
    return conclude(ledger, grounds, tuple(appraised.values()), receipts=[])


def verify_raw_quote(
    data: bytes,
    collateral: Collateral | None,
    policy: Policy | None,
    at: int,
    anchors: Sequence[Anchor],
) -> AttestationResult:
    """Return what one quote proves by itself, in any form a platform hands it out.

    The quote part of step 1 of `verify`, by the same checks.
    """
    grounds = Grounds(policy=policy or NO_POLICY, at=at, anchors=tuple(anchors))
    ledger = Ledger(grounds.policy.required & QUOTE_SCOPE)
    page = ledger.about("quote")
    quote = platform.parse_raw_quote(data, page)
    genuine = None
    if quote is not None:
        anchor = platform.anchor_for(quote, grounds.anchors)
        genuine = platform.verify_genuine(quote, collateral, grounds, anchor, page)
    if quote is not None and genuine is not None:
        agreeing = appraise_quote(genuine, None, grounds, page)
        events.check_lone_quote(agreeing, page)
    else:
        platform.skip_dependents(page)
    ledger.close("quote")
    domains = frozenset({genuine.trust_domain}) if genuine else frozenset[str]()
    return AttestationResult(
        checks=ledger.checks,
        at=at,
        policy_digest=grounds.policy.digest,
        trust_domains=domains,
        not_proved=not_proved(ledger.checks, grounds.policy, domains),
        facts={"quotes": [quote_facts(quote, genuine)] if quote else []},
    )


def malformed_result(error: MalformedError, policy: Policy | None, at: int) -> AttestationResult:
    """Return the result for a file that does not parse: BUNDLE failed, nothing else was made."""
    ledger = Ledger((policy or NO_POLICY).required)
    ledger.about(FILE).refused("BUNDLE", error)
    return AttestationResult(
        checks=ledger.checks,
        at=at,
        policy_digest=policy.digest if policy else None,
        trust_domains=frozenset(),
        not_proved=("anything: the file could not be read",),
    )


def _receipt(
    item: BundledReceipt,
    appraised: Mapping[bytes, Appraised],
    contents: Contents,
    ledger: Ledger,
) -> Sealed | None:
    receipt, claims = item.receipt, item.receipt.claims
    page = ledger.about(f"receipt {item.jti}")
    page.passed("RECEIPT-FORMAT", "canonical, closed claims", observed=f"end {claims.response.end}")
    known = appraised.get(claims.bootseed)
    signed, checkpoint = False, None
    if known is None:
        receipts.check_without_boot(receipt, page)
    else:
        signed = receipts.check_signature(receipt, known.boot, page)
        receipts.check_binding(receipt, known.boot, known.quote, page)
        receipts.check_channel(known.boot, contents, page)
        receipts.check_model(claims, known.boot, page)
    receipts.check_nonce(claims, contents, page)
    check_bodies(item, contents, page)
    if known is None:
        skip_inclusion(page)
    else:
        checkpoint = check_inclusion(item, known.boot, page)
    return Sealed(receipt=receipt, checkpoint=checkpoint) if signed else None


def _uncovered(bundle: Bundle, contents: Mapping[str, Contents], ledger: Ledger) -> None:
    """Name what the file holds and no check covers: it must not ride along with a verdict."""
    for epoch in bundle.epochs:
        statement = epoch.statement
        page = ledger.about(f"epoch {statement.epoch} of boot {short(statement.bootseed)}")
        page.lacking("EPOCH-QUOTE", _LATER, hint="leave epochs out of the bundle for now")
        page.lacking("EPOCH-CHAIN", _LATER)
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
