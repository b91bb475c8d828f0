"""What files contain, as plain values; nothing here verifies anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError
from attestation.policy import SGX_TYPES
from attestation.tdx.quote import parse_quote

if TYPE_CHECKING:
    from attestation.bundle import BootEvidence, Bundle, BundledReceipt, EpochEvidence
    from attestation.receipt.commitments import Openings
    from attestation.tdx.quote import Quote


def show_bundle(bundle: Bundle) -> dict[str, Any]:
    """Return the contents of a bundle.

    Opening keys are left out: who reads a report over a shoulder must not learn them.
    """
    return {
        "boots": [_boot(boot) for boot in bundle.boots],
        "collateral": [digest.hex for digest in bundle.collateral],
        "epochs": [_epoch(epoch) for epoch in bundle.epochs],
        "receipts": [_receipt(item) for item in bundle.receipts],
        "tasks": len(bundle.tasks),
    }


def show_openings(openings: Openings) -> dict[str, Any]:
    """Return which commitments can be opened, without the keys."""
    return {
        "opens": sorted(openings.keys),
        "inserted_bytes": [len(piece) for piece in openings.inserted],
    }


def show_quote(quote: Quote) -> dict[str, Any]:
    """Return the fields of a quote; the names are those of policies."""
    body, pck = quote.body, quote.pck
    return {
        "version": quote.version,
        "quote_digest": quote.digest.hex,
        "bytes": len(quote.raw),
        "padding": quote.padding,
        "tee_tcb_svn": body.tee_tcb_svn.hex(),
        "mrseam": body.mr_seam.hex(),
        "mrsignerseam": body.mr_signer_seam.hex(),
        "seamattributes": body.seam_attributes.hex(),
        "attributes": f"{body.td_attributes:#x}",
        "xfam": f"{body.xfam:#x}",
        "mrtd": body.mrtd.hex(),
        "mrconfigid": body.mr_config_id.hex(),
        "mrowner": body.mr_owner.hex(),
        "mrownerconfig": body.mr_owner_config.hex(),
        **{f"rtmr{index}": value.hex() for index, value in enumerate(body.rtmrs)},
        "report_data": body.report_data.hex(),
        "mrservicetd": body.mr_service_td.hex() if body.mr_service_td is not None else None,
        "fmspc": pck.fmspc.hex() if pck else None,
        "ppid": pck.ppid.hex() if pck else None,
        "piid": pck.piid.hex() if pck and pck.piid else None,
        "sgx_type": SGX_TYPES[pck.sgx_type] if pck else None,
        "dynamic_platform": pck.dynamic_platform if pck else None,
        "cached_keys": pck.cached_keys if pck else None,
        "smt": pck.smt_enabled if pck else None,
    }


def _boot(boot: BootEvidence) -> dict[str, Any]:
    return {
        "statement": boot.statement.to_json(),
        "keyset": boot.keyset.to_json(),
        "keyset_digest": boot.keyset.digest.hex,
        "quote": _quote(boot.quote),
        "collateral": boot.collateral.hex if boot.collateral else None,
        "event_log": boot.event_log.format if boot.event_log else None,
        "gpu": len(boot.gpu),
    }


def _epoch(epoch: EpochEvidence) -> dict[str, Any]:
    return {
        "statement": epoch.statement.to_json(),
        "statement_digest": epoch.statement.digest.hex,
        "checkpoint": epoch.checkpoint,
        "quote": _quote(epoch.quote),
        "collateral": epoch.collateral.hex if epoch.collateral else None,
    }


def _quote(data: bytes) -> dict[str, Any]:
    try:
        return show_quote(parse_quote(data))
    except MalformedError as error:
        return {"malformed": str(error)}


def _receipt(item: BundledReceipt) -> dict[str, Any]:
    attempt = item.receipt.claims.lineage.retry_of
    return {
        "digest": item.receipt.digest.hex,
        "kid": item.receipt.kid,
        "claims": item.receipt.claims.to_json(),
        "retry_of": attempt.hex if attempt else None,
        "openings": show_openings(item.openings) if item.openings else None,
        "proof": item.proof is not None,
    }
