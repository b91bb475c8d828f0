"""The one pipeline: from a bundle and the grounds of the verifier to an `AttestationResult`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.policy import NO_POLICY, Policy
from attestation.result import AttestationResult
from attestation.verifier import boot as boot_checks
from attestation.verifier import domain, events, platform, receipts
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

    from attestation.bundle import BootEvidence, Bundle, BundledReceipt
    from attestation.encoding.digest import Digest
    from attestation.policy import ReferenceValues
    from attestation.statement import BootStatement
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.dcap import GenuineQuote
    from attestation.tdx.quote import Quote
    from attestation.verifier.ledger import Page

FILE = "file"
_LATER = "this version does not make this check"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Appraised:
    """What is known of one boot after its checks; `quote` None: it did not parse."""

    boot: BootEvidence
    quote: Quote | None
    genuine: GenuineQuote | None


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
    ledger.about(FILE).passed("BUNDLE", _inventory(bundle))
    appraised = _boots(bundle, grounds, ledger)
    sealed = [
        one
        for item in bundle.receipts
        if (one := _receipt(item, appraised, contents.get(item.jti, NOTHING), ledger))
    ]
    check_equivocation(sealed, ledger.about(FILE))
    _uncovered(bundle, contents, ledger)
    ledger.close(FILE)
    return _result(ledger, grounds, appraised, bundle.receipts)


def verify_boots(
    bundle: Bundle, policy: Policy | None, at: int, anchors: Sequence[Anchor]
) -> AttestationResult:
    """Return what the boots of `bundle` prove, before there is any receipt.

    Steps 1, 2 and 7 of `verify`; what receipts and the log have to pass is not asked for.
    """
    grounds = Grounds(policy=policy or NO_POLICY, at=at, anchors=tuple(anchors))
    ledger = Ledger(grounds.policy.required & BOOT_SCOPE)
    ledger.about(FILE).passed("BUNDLE", _inventory(bundle))
    appraised = _boots(bundle, grounds, ledger)
    ledger.close(FILE)
    return _result(ledger, grounds, appraised, ())


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
        agreeing = _appraise(genuine, None, grounds, page)
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
        facts={"quotes": [_quote_facts(quote, genuine)] if quote else []},
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


def _boots(bundle: Bundle, grounds: Grounds, ledger: Ledger) -> dict[bytes, _Appraised]:
    appraised = [
        _boot(boot, bundle, grounds, ledger.about(_boot_name(boot))) for boot in bundle.boots
    ]
    by_quote: dict[Digest, BootEvidence] = {
        one.quote.digest: one.boot for one in appraised if one.quote
    }
    successors = boot_checks.count_successors(bundle.boots)
    for one in appraised:
        page = ledger.about(_boot_name(one.boot))
        boot_checks.check_chain(one.boot, successors, by_quote, page)
    return {one.boot.statement.bootseed: one for one in appraised}


def _boot(boot: BootEvidence, bundle: Bundle, grounds: Grounds, page: Page) -> _Appraised:
    genuine = None
    quote = platform.parse_bundled_quote(boot.quote, page)
    if quote is not None:
        anchor = platform.anchor_for(quote, grounds.anchors)
        collateral = bundle.collateral.get(boot.collateral) if boot.collateral else None
        if platform.check_canonical(quote, anchor, page) and platform.check_collateral_form(
            collateral, anchor, page
        ):
            genuine = platform.verify_genuine(quote, collateral, grounds, anchor, page)
        # What binds the boot's parts to each other does not wait for the platform's word.
        boot_checks.check_statement(boot, quote, page)
    boot_checks.check_keyset(boot, page)
    if genuine is not None:
        agreeing = _appraise(genuine, boot.statement, grounds, page)
        events.check_event_log(boot, genuine.quote.body, agreeing, grounds.policy, page)
    else:
        platform.skip_dependents(page)
    return _Appraised(boot=boot, quote=quote, genuine=genuine)


def _appraise(
    genuine: GenuineQuote, statement: BootStatement | None, grounds: Grounds, page: Page
) -> tuple[ReferenceValues, ...]:
    body, policy = genuine.quote.body, grounds.policy
    platform.check_endorsements(genuine, grounds, page)
    platform.check_status(genuine, grounds, page)
    platform.check_advisories(genuine, grounds, page)
    domain.check_attributes(body, policy, page)
    domain.check_module(body, policy, page)
    platform.check_platform(genuine, grounds, page)
    return domain.check_measurements(body, statement, policy, page)


def _receipt(
    item: BundledReceipt,
    appraised: Mapping[bytes, _Appraised],
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
            page = ledger.about(_boot_name(boot))
            for id_ in ("GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"):
                page.lacking(id_, f"GPU evidence: {_LATER}")
    known = {item.jti for item in bundle.receipts}
    for jti in sorted(contents.keys() - known):
        ledger.about(f"receipt {jti}").lacking(
            "RECEIPT-FORMAT",
            "this receipt was asked about, but it is not in the file",
            hint="`attested inspect FILE` lists the receipts of a file",
        )


def _result(
    ledger: Ledger,
    grounds: Grounds,
    appraised: Mapping[bytes, _Appraised],
    items: Sequence[BundledReceipt],
) -> AttestationResult:
    quotes = [one for one in appraised.values() if one.quote is not None]
    domains = frozenset(one.genuine.trust_domain for one in quotes if one.genuine)
    return AttestationResult(
        checks=ledger.checks,
        at=grounds.at,
        policy_digest=grounds.policy.digest,
        trust_domains=domains,
        not_proved=not_proved(ledger.checks, grounds.policy, domains),
        facts={
            "quotes": [
                {"bootseed": one.boot.statement.bootseed.hex()}
                | _quote_facts(one.quote, one.genuine)
                for one in quotes
                if one.quote
            ],
            "receipts": [receipts.receipt_facts(item.receipt) for item in items],
        },
    )


def _quote_facts(quote: Quote, genuine: GenuineQuote | None) -> dict[str, object]:
    facts: dict[str, object] = {"quote_digest": quote.digest.hex, "version": quote.version}
    if genuine is None:
        return facts | {"genuine": False}
    return facts | {
        "genuine": True,
        "trust_domain": genuine.trust_domain,
        "tcb_status": genuine.tcb_status,
        "advisory_ids": list(genuine.advisory_ids),
        "tcb_evaluation_number": genuine.tcb_evaluation_number,
        "tcb_date": genuine.tcb_date,
        "endorsements_from": genuine.collateral_not_before,
        "endorsements_until": genuine.collateral_not_after,
        "fmspc": genuine.fmspc.hex(),
        "ppid": genuine.ppid.hex(),
        "piid": genuine.piid.hex() if genuine.piid else None,
    }


def _boot_name(boot: BootEvidence) -> str:
    return f"boot {boot.statement.bootseed.hex()[:16]}"


def _inventory(bundle: Bundle) -> str:
    counts = {
        "boot": len(bundle.boots),
        "collateral set": len(bundle.collateral),
        "epoch": len(bundle.epochs),
        "receipt": len(bundle.receipts),
        "task record": len(bundle.tasks),
    }
    words = [f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n]
    return "canonical, nothing unknown: " + (", ".join(words) or "empty")
