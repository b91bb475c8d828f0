"""What every quote of a boot goes through, and what is known of a boot afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from attestation.policy import SGX_TYPES
from attestation.result import AttestationResult
from attestation.verifier import boot as boot_checks
from attestation.verifier import domain, events, quotes
from attestation.verifier.endorsements import check_endorsements
from attestation.verifier.issued import say_when_issued
from attestation.verifier.model import (
    NOTHING_MEASURED,
    MeasuredDigests,
    check_boot_model,
    measured_digests,
)
from attestation.verifier.notes import not_proved
from attestation.verifier.platform import check_platform
from attestation.verifier.tcb import check_advisories, check_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attestation.bundle import BootEvidence, Bundle, EpochEvidence
    from attestation.policy import ReferenceValues
    from attestation.statement import BootStatement
    from attestation.tdx.collateral import Collateral
    from attestation.tdx.dcap import GenuineQuote
    from attestation.tdx.quote import Quote
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Ledger, Page

FILE = "file"
_BACKING = frozenset({"QUOTE-FORMAT", "QUOTE-GENUINE", "BOOT-STATEMENT", "KEYSET"})


class Standing(IntEnum):
    """How far the boot itself may speak, from its own checks; a higher one outweighs a lower one.

    A boot is REFUTED if its quote is malformed or not genuine, or is not for this statement and
    keyset: then anybody may have made it, and it is evidence against nobody else.
    """

    REFUTED = 0
    OPEN = 1
    ACCEPTED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised:
    """What is known of a boot and one of its quotes after the checks; `quote` None: it did not
    parse.  `epoch` is the number of the epoch whose quote it is, None for any other quote.
    `standing` is that of the boot, whichever of its quotes this is.  `measured` is what the boot
    measured of its model; only its boot quote says.
    """

    boot: BootEvidence
    quote: Quote | None
    genuine: GenuineQuote | None
    standing: Standing
    epoch: int | None = None
    measured: MeasuredDigests = NOTHING_MEASURED


def appraise_boots(bundle: Bundle, grounds: Grounds, ledger: Ledger) -> dict[bytes, Appraised]:
    """Make every check on the boots of a parsed bundle, each by itself; return them by bootseed."""
    ledger.about(FILE).passed("BUNDLE", _inventory(bundle))
    appraised = [
        _boot(boot, bundle, grounds, ledger.about(boot_name(boot))) for boot in bundle.boots
    ]
    return {one.boot.statement.bootseed: one for one in appraised}


def read_quote(
    raw: bytes, collateral: Collateral | None, grounds: Grounds, page: Page
) -> tuple[Quote | None, GenuineQuote | None]:
    """QUOTE-FORMAT and QUOTE-GENUINE for a quote that has to be in canonical form."""
    quote = quotes.parse_bundled_quote(raw, page)
    if quote is None:
        return None, None
    anchor = quotes.anchor_for(quote, grounds.anchors)
    if not quotes.check_canonical(quote, anchor, page):
        return quote, None
    if not quotes.check_collateral_form(collateral, anchor, page):
        return quote, None
    return quote, quotes.verify_genuine(quote, collateral, grounds, anchor, page)


def appraise_domain(
    genuine: GenuineQuote | None, boot: BootEvidence, grounds: Grounds, page: Page
) -> None:
    """Every check that a genuine quote of this boot allows; without one they stay open."""
    if genuine is None:
        quotes.skip_dependents(page)
        return
    agreeing = appraise_quote(genuine, boot.statement, grounds, page)
    events.check_event_log(boot, genuine.quote.body, agreeing, grounds.policy, page)


def appraise_quote(
    genuine: GenuineQuote, statement: BootStatement | None, grounds: Grounds, page: Page
) -> tuple[ReferenceValues, ...]:
    """Endorsements, TCB, attributes, module, platform and measurements of a genuine quote.

    Returns the reference tuples that agree; `statement` None means a quote by itself.
    """
    body, policy = genuine.quote.body, grounds.policy
    check_endorsements(genuine, grounds, page)
    check_status(genuine, grounds, page)
    check_advisories(genuine, grounds, page)
    domain.check_attributes(body, policy, page)
    domain.check_module(body, policy, page)
    check_platform(genuine, grounds, page)
    return domain.check_measurements(body, statement, policy, page)


def conclude(
    ledger: Ledger, grounds: Grounds, appraised: Sequence[Appraised], **facts: object
) -> AttestationResult:
    """Return the result of everything in the ledger; `facts` are added to those of the quotes."""
    domains = quotes.domains_of(((one.quote, one.genuine) for one in appraised), grounds.anchors)
    return AttestationResult(
        checks=ledger.checks,
        at=grounds.at,
        policy_digest=grounds.policy.digest,
        policy_version=grounds.policy.version,
        policy_signers=grounds.policy.signers,
        trust_domains=domains,
        not_proved=not_proved(ledger.checks, grounds.policy, domains),
        facts={
            "quotes": [
                {"bootseed": one.boot.statement.bootseed.hex()}
                | ({} if one.epoch is None else {"epoch": one.epoch})
                | quote_facts(one.quote, one.genuine)
                for one in appraised
                if one.quote
            ],
            **facts,
        },
        endorsed=tuple(dict.fromkeys(one.genuine.endorsed for one in appraised if one.genuine)),
    )


def quote_facts(quote: Quote, genuine: GenuineQuote | None) -> dict[str, object]:
    """Return the plain facts of a quote that a result shows."""
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
        "tee_tcb_svn": quote.body.tee_tcb_svn.hex(),
        "endorsements_from": genuine.holds.issued,
        "endorsements_until": genuine.holds.until,
        "endorsements_end_first": genuine.holds.name,
        "fmspc": genuine.fmspc.hex(),
        "ppid": genuine.ppid.hex(),
        "piid": genuine.piid.hex() if genuine.piid else None,
        "sgx_type": SGX_TYPES[genuine.pck.sgx_type],
        "dynamic_platform": genuine.pck.dynamic_platform,
        "cached_keys": genuine.pck.cached_keys,
        "smt": genuine.pck.smt_enabled,
    }


def boot_name(boot: BootEvidence) -> str:
    """Return the subject that a boot's checks are about."""
    return f"boot {boot.statement.bootseed.hex()[:16]}"


def collateral_of(item: BootEvidence | EpochEvidence, bundle: Bundle) -> Collateral | None:
    """Return the endorsements in the file that a boot or an epoch names, None without any."""
    return bundle.collateral.get(item.collateral) if item.collateral else None


def _boot(boot: BootEvidence, bundle: Bundle, grounds: Grounds, page: Page) -> Appraised:
    collateral = collateral_of(boot, bundle)
    quote, genuine = read_quote(boot.quote, collateral, grounds, page)
    if quote is not None:
        say_when_issued(quote, collateral, boot.statement.time_claimed, grounds, page)
        # What binds the boot's parts to each other does not wait for the platform's word.
        boot_checks.check_statement(boot.statement, quote, page)
    boot_checks.check_keyset(boot, page)
    appraise_domain(genuine, boot, grounds, page)
    measured = measured_digests(boot, quote)
    check_boot_model(boot, measured, page)
    return Appraised(
        boot=boot, quote=quote, genuine=genuine, standing=_standing(page), measured=measured
    )


def _standing(page: Page) -> Standing:
    """Return where the checks of a boot by itself, all on `page`, leave it."""
    if page.failed & _BACKING:
        return Standing.REFUTED
    return Standing.OPEN if page.flaws else Standing.ACCEPTED


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
