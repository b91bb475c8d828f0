"""Is this quote genuine, at this time, under this root?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError, UsageError
from attestation.tdx.codes import POLICY_CODES, classify
from attestation.tdx.collateral import issue_dates
from attestation.tdx.dates import Part, collateral_parts, pck_parts, require_in_date, shared
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.tdx.quote import QE_REPORT_CERTIFICATION
from attestation.tdx.qvl import read_claims, require_same_reading, run_dcap_qvl
from attestation.tdx.signatures import (
    OwnChecks,
    own_checks,
    verify_collateral_signatures,
    verify_quote_signatures,
)

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral, IssueDates
    from attestation.tdx.pck import PckExtension
    from attestation.tdx.quote import Quote

__all__ = [
    "POLICY_CODES",
    "GenuineQuote",
    "OwnChecks",
    "classify",
    "find_refusals",
    "own_checks",
    "verify_quote",
]

# The last second of the year 9999: later times have no RFC 3339 form.
_LAST_INSTANT = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineQuote:
    """A quote that a genuine quoting enclave made; whether anyone wants it is policy.

    `tcb_status` is the merged status of platform, TDX module and quoting enclave, and
    `advisory_ids` their union.  `tcb_date` is the earlier date of the platform's and the module's
    TCB level as Intel wrote it, `tcb_level_date` the same in Unix seconds.  `pck` says which
    platform it is.  `parts` is everything dated that was looked at: the parts of the collateral and
    the certificates in the quote; `collateral_issued` is when the oldest of the monthly parts was
    issued.  `trust_domain` is "intel" or "simulated".
    """

    quote: Quote
    tcb_status: str
    advisory_ids: tuple[str, ...]
    tcb_date: str
    tcb_level_date: int
    pck: PckExtension
    endorsed: Endorsed
    collateral_issued: int
    parts: tuple[Part, ...]
    trust_domain: str

    @property
    def holds(self) -> Part:
        """The time in which the quote verifies by this collateral, both ends included.

        Its name is that of the part that ends first.
        """
        return shared(self.parts)

    @property
    def tcb_evaluation_number(self) -> int:
        """The lower evaluation number of TCB info and QE identity."""
        return min(part.number for _, part in self.endorsed.parts)

    @property
    def fmspc(self) -> bytes:
        """The kind of platform, 6 bytes."""
        return self.pck.fmspc

    @property
    def ppid(self) -> bytes:
        """The platform's provisioning id, 16 bytes."""
        return self.pck.ppid

    @property
    def piid(self) -> bytes | None:
        """The platform instance id, 16 bytes; None on single-package platforms."""
        return self.pck.piid


def verify_quote(quote: Quote, collateral: Collateral, at: int, anchor: Anchor) -> GenuineQuote:
    """Show that `quote` is genuine under `anchor` at `at` (Unix seconds), or raise.

    1. the certification data is of the one form in use, with a readable PCK certificate
    2. every signature inside the quote holds, up to `anchor`
    3. every signature inside the collateral holds, up to `anchor`
    4. the collateral is for this platform's PCE
    5. dcap-qvl agrees and adds dates, revocation, QE identity, TD attributes and TCB level
    6. dcap-qvl read the same quote, platform and evaluation number as this package did
    7. every part was issued by then, the revocation lists too, which dcap-qvl does not ask

    Raises `EvidenceError`; its code is one of expired, not_yet_valid, no_tcb_level, debug,
    sept_ve, service_td, migratable, reserved_bits (genuine evidence, `POLICY_CODES`), or
    revoked, fmspc, qe, module, root, malformed, signature, other.  `UsageError` if `at` is not
    an instant from 1970 to 9999.
    """
    _require_instant(at)
    try:
        pck = _require_form(quote)
        verify_quote_signatures(quote, anchor)
        verify_collateral_signatures(collateral, anchor, at)
        _require_pce(pck, collateral)
        issued = issue_dates(collateral)
        parts = (*collateral_parts(collateral), *pck_parts(quote.chain()))
    except MalformedError as error:
        raise EvidenceError(str(error), code="malformed") from error
    claims = read_claims(run_dcap_qvl(quote.raw, collateral, at, anchor.root_der))
    require_same_reading(quote, pck, issued, claims)
    require_in_date(parts, at)
    return GenuineQuote(
        quote=quote,
        tcb_status=claims.status,
        advisory_ids=claims.advisory_ids,
        tcb_date=claims.tcb_date,
        tcb_level_date=claims.tcb_level_date,
        pck=pck,
        endorsed=_endorsed(pck, issued, anchor),
        collateral_issued=issued.oldest,
        parts=parts,
        trust_domain=anchor.trust_domain,
    )


def find_refusals(quote: Quote, collateral: Collateral, at: int, anchor: Anchor) -> frozenset[str]:
    """Return every code that is true of a refused quote; empty if `verify_quote` accepts it.

    `verify_quote` stops at the first reason.  This adds what dcap-qvl says by itself, which
    looks at time and revocation first, and what the TD attributes show on their face.
    """
    try:
        verify_quote(quote, collateral, at, anchor)
    except EvidenceError as error:
        return (
            frozenset({error.code})
            | quote.body.refused_attributes
            | _dcap_refusal(quote.raw, collateral, at, anchor)
        )
    return frozenset()


def _dcap_refusal(raw: bytes, collateral: Collateral, at: int, anchor: Anchor) -> frozenset[str]:
    try:
        run_dcap_qvl(raw, collateral, at, anchor.root_der)
    except EvidenceError as error:
        return frozenset({error.code})
    return frozenset()


def _require_instant(at: int) -> None:
    if not 0 <= at <= _LAST_INSTANT:
        raise UsageError(
            "the time of verification is out of range",
            code="time",
            expected="Unix seconds from 1970 to 9999",
            observed=str(at),
        )


def _endorsed(pck: PckExtension, issued: IssueDates, anchor: Anchor) -> Endorsed:
    return Endorsed(
        root=anchor.name,
        fmspc=pck.fmspc,
        tcb_info=SignedPart(number=issued.tcb_number, issued=issued.tcb_info),
        qe_identity=SignedPart(number=issued.qe_number, issued=issued.qe_identity),
    )


def _require_form(quote: Quote) -> PckExtension:
    if quote.outer_type != QE_REPORT_CERTIFICATION:
        raise MalformedError(
            "the quote has another certification type",
            expected=str(QE_REPORT_CERTIFICATION),
            observed=str(quote.outer_type),
        )
    if quote.pck is None:
        raise MalformedError("the quote embeds no readable PCK certificate")
    return quote.pck


def _require_pce(pck: PckExtension, collateral: Collateral) -> None:
    """Compare the PCE id, which dcap-qvl leaves out (Intel's algorithm demands both)."""
    info = parse_json_object(collateral.tcb_info.encode())
    expected = info.get("pceId")
    if not isinstance(expected, str) or expected.lower() != pck.pce_id.hex():
        raise EvidenceError(
            "the TCB info is for another provisioning certification enclave",
            code="fmspc",
            expected=f"PCE id {pck.pce_id.hex()}",
        )
