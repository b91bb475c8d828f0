"""What a manifest records about a quote, and the same facts as the product sees them."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError
from attestation.tdx.chain import parse_certificate
from attestation.tdx.signatures import own_checks

if TYPE_CHECKING:
    from attestation.encoding.strict_json import JsonValue
    from attestation.tdx.quote import Quote

# The manifests shorten this digest; four bytes tell Intel's roots apart.
_PREFIX_CHARS = 8

_NAMES = frozenset(
    {
        "quote_version", "body", "size", "td_attributes_le_hex", "debug", "sept_ve_disable",
        "xfam_le_hex", "tee_tcb_svn", "tee_tcb_svn2", "mr_seam", "mr_signer_seam", "mrtd",
        "mr_config_id", "mr_owner", "mr_owner_config", "mr_service_td", "rtmr0", "rtmr1",
        "rtmr2", "rtmr3", "report_data", "qe_isvsvn", "fmspc", "ppid", "pck_not_before",
        "pck_not_after", "embedded_root_sha256_prefix", "own_checks",
    }
)  # fmt: skip


def recorded(members: dict[str, Any]) -> dict[str, JsonValue]:
    """Return those members of a manifest entry that state a fact about the quote itself."""
    return {name: value for name, value in members.items() if name in _NAMES and value is not None}


def observed(quote: Quote, size: int) -> dict[str, JsonValue]:
    """Return every fact under the name that manifests give it; None where there is none."""
    body = quote.body
    return {
        "quote_version": quote.version,
        "body": "td10" if body.tee_tcb_svn2 is None else "td15",
        "size": size,
        "td_attributes_le_hex": body.td_attributes.to_bytes(8, "little").hex(),
        "debug": quote.debug,
        "sept_ve_disable": quote.sept_ve_disable,
        "xfam_le_hex": body.xfam.to_bytes(8, "little").hex(),
        "tee_tcb_svn": body.tee_tcb_svn.hex(),
        "tee_tcb_svn2": _hex(body.tee_tcb_svn2),
        "mr_seam": body.mr_seam.hex(),
        "mr_signer_seam": body.mr_signer_seam.hex(),
        "mrtd": body.mrtd.hex(),
        "mr_config_id": body.mr_config_id.hex(),
        "mr_owner": body.mr_owner.hex(),
        "mr_owner_config": body.mr_owner_config.hex(),
        "mr_service_td": _hex(body.mr_service_td),
        **{f"rtmr{index}": value.hex() for index, value in enumerate(body.rtmrs)},
        "report_data": body.report_data.hex(),
        "qe_isvsvn": quote.qe.isv_svn,
        **_platform(quote),
        **_chain(quote),
        "own_checks": asdict(own_checks(quote)),
    }


def _platform(quote: Quote) -> dict[str, JsonValue]:
    if quote.pck is None:
        return {"fmspc": None, "ppid": None}
    return {"fmspc": quote.pck.fmspc.hex(), "ppid": quote.pck.ppid.hex()}


def _chain(quote: Quote) -> dict[str, JsonValue]:
    try:
        chain = quote.chain()
        leaf = parse_certificate(chain[0], what="the PCK certificate")
    except MalformedError:
        return {"pck_not_before": None, "pck_not_after": None, "embedded_root_sha256_prefix": None}
    return {
        "pck_not_before": int(leaf.not_valid_before_utc.timestamp()),
        "pck_not_after": int(leaf.not_valid_after_utc.timestamp()),
        "embedded_root_sha256_prefix": hashlib.sha256(chain[-1]).hexdigest()[:_PREFIX_CHARS],
    }


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()
