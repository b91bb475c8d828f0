"""The seam to dcap-qvl: is this quote genuine, at this time, under this root?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dcap_qvl

from attestation.encoding.strict_json import parse_json_object
from attestation.errors import EvidenceError, MalformedError, UsageError
from attestation.tdx.codes import POLICY_CODES, classify, refusal
from attestation.tdx.collateral import issue_dates
from attestation.tdx.endorsed import Endorsed, SignedPart
from attestation.tdx.quote import QE_REPORT_CERTIFICATION
from attestation.tdx.signatures import (
    OwnChecks,
    own_checks,
    verify_collateral_signatures,
    verify_quote_signatures,
)

if TYPE_CHECKING:
    from attestation.tdx.anchor import Anchor
    from attestation.tdx.body import TdReport
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
_PLATFORM_FACTS = (
    "fmspc",
    "ppid",
    "platform_instance_id",
    "sgx_type",
    "dynamic_platform",
    "cached_keys",
    "smt_enabled",
)
_FLAGS = {True: "True", False: "False", None: "Undefined"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenuineQuote:
    """A quote that a genuine quoting enclave made; whether anyone wants it is policy.

    `tcb_status` is the merged status of platform, TDX module and quoting enclave, and
    `advisory_ids` their union.  `tcb_date` is the earlier date of the platform's and the module's
    TCB level as Intel wrote it, `tcb_level_date` the same in Unix seconds.  `pck` says which
    platform it is.  `collateral_not_before` and `collateral_not_after` (Unix seconds) bound the
    time in which every part of the collateral holds; `collateral_issued` is when the oldest of its
    monthly parts was issued.  `trust_domain` is "intel" or "simulated".
    """

    quote: Quote
    tcb_status: str
    advisory_ids: tuple[str, ...]
    tcb_date: str
    tcb_level_date: int
    pck: PckExtension
    endorsed: Endorsed
    collateral_issued: int
    collateral_not_before: int
    collateral_not_after: int
    trust_domain: str

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

    Raises `EvidenceError`; its code is one of expired, not_yet_valid, no_tcb_level, debug,
    sept_ve, service_td, migratable, reserved_bits (genuine evidence, `POLICY_CODES`), or
    revoked, fmspc, qe, module, root, malformed, signature, other.  `UsageError` if `at` is not
    an instant from 1970 to 9999.
    """
    if not 0 <= at <= _LAST_INSTANT:
        raise UsageError(
            "the time of verification is out of range",
            code="time",
            expected="Unix seconds from 1970 to 9999",
            observed=str(at),
        )
    try:
        pck = _require_form(quote)
        verify_quote_signatures(quote, anchor)
        verify_collateral_signatures(collateral, anchor, at)
        _require_pce(pck, collateral)
        issued = issue_dates(collateral)
    except MalformedError as error:
        raise EvidenceError(str(error), code="malformed") from error
    claims = _read_claims(_run_dcap_qvl(quote.raw, collateral, at, anchor.root_der))
    _require_same_reading(quote, pck, issued, claims)
    return GenuineQuote(
        quote=quote,
        tcb_status=claims.status,
        advisory_ids=claims.advisory_ids,
        tcb_date=claims.tcb_date,
        tcb_level_date=claims.tcb_level_date,
        pck=pck,
        endorsed=Endorsed(
            root=anchor.name,
            fmspc=pck.fmspc,
            tcb_info=SignedPart(number=issued.tcb_number, issued=issued.tcb_info),
            qe_identity=SignedPart(number=issued.qe_number, issued=issued.qe_identity),
        ),
        collateral_issued=issued.oldest,
        collateral_not_before=claims.not_before,
        collateral_not_after=claims.not_after,
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
        _run_dcap_qvl(raw, collateral, at, anchor.root_der)
    except EvidenceError as error:
        return frozenset({error.code})
    return frozenset()


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


def _run_dcap_qvl(raw: bytes, collateral: Collateral, at: int, root_der: bytes) -> str:
    """Return dcap-qvl's claims as JSON text, or raise `EvidenceError` with a stable code."""
    try:
        verifier = dcap_qvl.QuoteVerifier(root_der)
        policy = dcap_qvl.QuotePolicy.claims_only(at)
        claims = verifier.verify_with_policy(raw, _foreign(collateral), at, policy)
        return str(claims.to_json())
    except ValueError as error:
        raise refusal(_full_text(str(error), raw, collateral, at, root_der)) from error
    except BaseException as error:
        # A panic in the compiled library arrives as a BaseException of its own kind; it must
        # refuse this quote, not end the process.  Everything else is not ours to stop.
        if type(error).__name__ != "PanicException":
            raise
        raise EvidenceError("the quote verifier failed", code="other") from error


def _full_text(text: str, raw: bytes, collateral: Collateral, at: int, root_der: bytes) -> str:
    """Return the refusal with its causes, which only the older entry point spells out."""
    try:
        dcap_qvl.verify_with_root_ca(raw, _foreign(collateral), root_der, at)
    except ValueError as error:
        return str(error)
    return text


def _foreign(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claims:
    """What this package takes from dcap-qvl's claims (claims version 1)."""

    status: str
    advisory_ids: tuple[str, ...]
    evaluation_number: int
    tcb_date: str
    tcb_level_date: int
    not_before: int
    not_after: int
    version: int
    platform: dict[str, object]
    report: dict[str, str]


def _read_claims(text: str) -> _Claims:
    try:
        claims: dict[str, Any] = json.loads(text)
        tcb, platform, qe = claims["tcb"], claims["platform"], claims["qe"]
        return _Claims(
            status=tcb["status"],
            advisory_ids=tuple(tcb["advisory_ids"]),
            evaluation_number=min(tcb["eval_data_number"], qe["tcb_eval_data_number"]),
            tcb_date=platform["tcb_level"]["tcbDate"],
            tcb_level_date=int(platform["tcb_date_tag"]),
            not_before=max(claims["latest_issue_date"], claims["qe_iden_latest_issue_date"]),
            not_after=min(
                claims["earliest_expiration_date"], claims["qe_iden_earliest_expiration_date"]
            ),
            version=claims["header"]["version"],
            platform={name: platform["pck"][name] for name in _PLATFORM_FACTS},
            report=_flatten(claims["report"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EvidenceError(
            "the quote verifier answered in a form that is not known",
            code="other",
            expected="claims version 1 of dcap-qvl 0.7",
            hint="install the pinned version of dcap-qvl",
        ) from error


def _flatten(report: dict[str, Any]) -> dict[str, str]:
    (fields,) = report.values()
    return {**fields.get("base", {}), **{k: v for k, v in fields.items() if k != "base"}}


def _require_same_reading(
    quote: Quote, pck: PckExtension, issued: IssueDates, claims: _Claims
) -> None:
    if (claims.version, claims.platform, claims.report, claims.evaluation_number) != (
        quote.version,
        _platform_as_claims(pck),
        _as_claims(quote.body),
        min(issued.tcb_number, issued.qe_number),
    ):
        raise EvidenceError(
            "two parsers read this quote or its endorsements differently",
            code="malformed",
            expected="dcap-qvl and this package to see the same fields",
        )


def _platform_as_claims(pck: PckExtension) -> dict[str, object]:
    """Write what policies ask about the platform the way dcap-qvl does."""
    return {
        "fmspc": list(pck.fmspc),
        "ppid": list(pck.ppid),
        "platform_instance_id": None if pck.piid is None else list(pck.piid),
        "sgx_type": pck.sgx_type,
        "dynamic_platform": _FLAGS[pck.dynamic_platform],
        "cached_keys": _FLAGS[pck.cached_keys],
        "smt_enabled": _FLAGS[pck.smt_enabled],
    }


def _as_claims(body: TdReport) -> dict[str, str]:
    """Write `body` the way dcap-qvl does."""
    report = {
        "tee_tcb_svn": body.tee_tcb_svn.hex(),
        "mr_seam": body.mr_seam.hex(),
        "mr_signer_seam": body.mr_signer_seam.hex(),
        "seam_attributes": body.seam_attributes.hex(),
        "td_attributes": body.td_attributes.to_bytes(8, "little").hex(),
        "xfam": body.xfam.to_bytes(8, "little").hex(),
        "mr_td": body.mrtd.hex(),
        "mr_config_id": body.mr_config_id.hex(),
        "mr_owner": body.mr_owner.hex(),
        "mr_owner_config": body.mr_owner_config.hex(),
        **{f"rt_mr{index}": value.hex() for index, value in enumerate(body.rtmrs)},
        "report_data": body.report_data.hex(),
    }
    later = {"tee_tcb_svn2": body.tee_tcb_svn2, "mr_service_td": body.mr_service_td}
    return report | {name: value.hex() for name, value in later.items() if value is not None}
