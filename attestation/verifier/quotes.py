"""QUOTE-FORMAT and QUOTE-GENUINE: is this a quote, and did a certified platform make it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.encoding.counts import counted
from attestation.errors import EvidenceError, MalformedError
from attestation.tdx.collateral import require_canonical_collateral
from attestation.tdx.dcap import GenuineQuote, verify_quote
from attestation.tdx.quote import Quote, parse_quote, require_canonical_quote
from attestation.verifier.words import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral
    from attestation.verifier.grounds import Grounds
    from attestation.verifier.ledger import Page

# What a refusal of evidence whose signatures hold is about: the check, why, what was expected.
MATTERS = {
    "expired": (
        "COLLATERAL-FRESH",
        "part of the endorsements had run out at the instant asked for",
        "every part in date",
    ),
    "not_yet_valid": (
        "COLLATERAL-FRESH",
        "part of the endorsements had not been issued at the instant asked for",
        "every part in date",
    ),
    "no_tcb_level": (
        "TCB-STATUS",
        "the platform is older than every TCB level that Intel lists",
        "a platform that meets one of the levels of the TCB info",
    ),
    "debug": ("TD-ATTRIBUTES", "the trust domain is open to a debugger", "DEBUG clear"),
    "sept_ve": (
        "TD-ATTRIBUTES",
        "the host can take pages away from the trust domain unnoticed",
        "SEPT_VE_DISABLE set",
    ),
    "service_td": ("TD-ATTRIBUTES", "a service domain is bound to this one", "MRSERVICETD zero"),
    "migratable": (
        "TD-ATTRIBUTES",
        "the trust domain can be moved to another platform",
        "MIGRATABLE clear",
    ),
    "reserved_bits": (
        "TD-ATTRIBUTES",
        "TDATTRIBUTES has bits that no rule of this verifier knows",
        "reserved bits and profiling clear",
    ),
}
_NO_ROOT_HINT = (
    "if this evidence is simulated, give its root with --root FILE; "
    "the verdict is then at best SIMULATED"
)
_OTHER_ROOT_HINT = (
    "another root than the one given with --root: simulated boots have one each, and Intel's is "
    "asked for by leaving --root out"
)
_DEPENDENTS = (
    "COLLATERAL-FRESH",
    "TCB-STATUS",
    "TCB-ADVISORIES",
    "TD-ATTRIBUTES",
    "TDX-MODULE",
    "MEASUREMENTS",
    "PLATFORM",
    "EVENT-LOG",
)


def parse_bundled_quote(raw: bytes, page: Page) -> Quote | None:
    """QUOTE-FORMAT for a quote in a bundle: it parses; its form is judged with the anchor."""
    try:
        return parse_quote(raw)
    except MalformedError as error:
        page.refused("QUOTE-FORMAT", error)
        return None


def parse_raw_quote(raw: bytes, page: Page) -> Quote | None:
    """QUOTE-FORMAT for a quote as platforms hand it out: any form, zero padding included."""
    quote = parse_bundled_quote(raw, page)
    if quote is not None:
        page.passed(
            "QUOTE-FORMAT",
            f"TDX quote version {quote.version}, {len(quote.raw)} bytes "
            f"and {counted(quote.padding, 'byte')} of padding",
        )
    return quote


def anchor_for(quote: Quote, anchors: Sequence[Anchor]) -> Anchor:
    """Return the anchor whose certificate the quote embeds, else the first.

    The quote thereby picks among roots the caller chose, never one of its own.
    """
    try:
        embedded = quote.chain()[-1]
    except MalformedError:
        return anchors[0]
    return next((anchor for anchor in anchors if anchor.root_der == embedded), anchors[0])


def domains_of(
    pairs: Iterable[tuple[Quote | None, GenuineQuote | None]], anchors: Sequence[Anchor]
) -> frozenset[str]:
    """Return what genuine quotes rest on, and "simulated" if any quote at all was judged under a
    root that is not Intel's: whatever becomes of it, it says nothing about hardware.
    """
    found: set[str] = set()
    for quote, genuine in pairs:
        chosen = anchor_for(quote, anchors) if quote else anchors[0]
        if genuine is not None:
            found.add(genuine.trust_domain)
        elif chosen.trust_domain != "intel":
            found.add(chosen.trust_domain)
    return frozenset(found)


def check_canonical(quote: Quote, anchor: Anchor, page: Page) -> bool:
    """QUOTE-FORMAT for a quote in a bundle: the one canonical form, under one of the roots."""
    try:
        require_canonical_quote(quote, anchor)
    except MalformedError as error:
        page.refused("QUOTE-FORMAT", error)
        return False
    except EvidenceError as error:
        page.passed("QUOTE-FORMAT", f"TDX quote version {quote.version} in canonical form")
        page.refused("QUOTE-GENUINE", error, hint=_root_hint(anchor))
        return False
    page.passed("QUOTE-FORMAT", f"TDX quote version {quote.version} in canonical form")
    return True


def check_collateral_form(collateral: Collateral | None, anchor: Anchor, page: Page) -> bool:
    """QUOTE-GENUINE for endorsements in a bundle: nothing in them may be rewritten unnoticed."""
    try:
        if collateral is not None:
            require_canonical_collateral(collateral, anchor)
    except (MalformedError, EvidenceError) as error:
        page.refused("QUOTE-GENUINE", error)
        return False
    return True


def verify_genuine(
    quote: Quote, collateral: Collateral | None, grounds: Grounds, anchor: Anchor, page: Page
) -> GenuineQuote | None:
    """QUOTE-GENUINE, or the check that the refusal belongs to.

    A refusal for time, TCB level or attributes is about evidence whose signatures hold: it fails
    the check of that matter, and QUOTE-GENUINE stays open.  Every other refusal fails
    QUOTE-GENUINE itself.
    """
    if collateral is None:
        page.skipped(
            "QUOTE-GENUINE",
            "the endorsements (Intel's signed data about the platform) are not in the file",
            hint="give them with --endorsements FILE (`attested quote`: --collateral FILE)",
        )
        return None
    show = verify_quote if grounds.quotes is None else grounds.quotes.verify
    try:
        genuine = show(quote, collateral, grounds.at, anchor)
    except EvidenceError as error:
        _file_refusal(error, quote, anchor, page)
        return None
    page.passed(
        "QUOTE-GENUINE",
        f"signed by a platform certified under {_root_name(genuine)}",
        observed=f"quote {quote.digest}",
    )
    return genuine


def skip_dependents(page: Page) -> None:
    """Write down the checks that only a genuine quote allows, where the page has none yet."""
    for id_ in _DEPENDENTS:
        if id_ not in page.made:
            page.skipped(id_, "not made: it needs a genuine quote whose appraisal went this far")


def _root_hint(anchor: Anchor) -> str:
    return _NO_ROOT_HINT if anchor.trust_domain == "intel" else _OTHER_ROOT_HINT


def _file_refusal(error: EvidenceError, quote: Quote, anchor: Anchor, page: Page) -> None:
    if error.code not in MATTERS:
        hint = _root_hint(anchor) if error.code == "root" else error.hint
        page.refused("QUOTE-GENUINE", error, hint=hint)
        return
    id_, reason, expected = MATTERS[error.code]
    page.skipped(
        "QUOTE-GENUINE",
        f"every signature holds, but appraisal ended early: see {id_}",
    )
    seen = error.observed
    page.not_accepted(
        id_,
        reason,
        expected=error.expected or expected,
        observed=seen + _attributes_of(quote) if id_ == "TD-ATTRIBUTES" else seen,
        hint=error.hint,
    )


def _attributes_of(quote: Quote) -> str:
    return f"; TDATTRIBUTES {attributes(quote.body)}"


def _root_name(genuine: GenuineQuote) -> str:
    if genuine.trust_domain == "intel":
        return "Intel's root"
    return "a SIMULATED root, which says nothing about hardware"
