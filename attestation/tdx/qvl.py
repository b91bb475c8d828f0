"""The seam to dcap-qvl: what goes in, and what of its answer this package takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dcap_qvl

from attestation.errors import EvidenceError
from attestation.tdx.codes import refusal

if TYPE_CHECKING:
    from attestation.tdx.body import TdReport
    from attestation.tdx.collateral import Collateral, IssueDates
    from attestation.tdx.pck import PckExtension
    from attestation.tdx.quote import Quote

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


def run_dcap_qvl(raw: bytes, collateral: Collateral, at: int, root_der: bytes) -> str:
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
class Claims:
    """What this package takes from dcap-qvl's claims (claims version 1)."""

    status: str
    advisory_ids: tuple[str, ...]
    evaluation_number: int
    tcb_date: str
    tcb_level_date: int
    version: int
    platform: dict[str, object]
    report: dict[str, str]


def read_claims(text: str) -> Claims:
    """Return what `run_dcap_qvl` answered, or raise `EvidenceError` (code "other").

    Its dates are left out: they are those of certificates and lists, without the texts' own.
    """
    try:
        claims: dict[str, Any] = json.loads(text)
        tcb, platform, qe = claims["tcb"], claims["platform"], claims["qe"]
        return Claims(
            status=tcb["status"],
            advisory_ids=tuple(tcb["advisory_ids"]),
            evaluation_number=min(tcb["eval_data_number"], qe["tcb_eval_data_number"]),
            tcb_date=platform["tcb_level"]["tcbDate"],
            tcb_level_date=int(platform["tcb_date_tag"]),
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


def require_same_reading(
    quote: Quote, pck: PckExtension, issued: IssueDates, claims: Claims
) -> None:
    """Refuse what two parsers understand differently (`EvidenceError`, code "malformed")."""
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
