"""TCB info (version 3) and QE identity (version 2) as the simulated Intel signs them."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from attestation.tdx.collateral import Collateral
from gateway.attester.simulated.facts import QE_ISV_PROD_ID, QE_SIGNER
from gateway.attester.simulated.keys import sign_raw

if TYPE_CHECKING:
    from gateway.attester.simulated.facts import Endorsements, SvnLevel, TcbLevel
    from gateway.attester.simulated.pki import Pki

# Initialised and with a provisioning key; debug and everything else off, XFRM left open.
_QE_ATTRIBUTES = "11000000000000000000000000000000"
_QE_ATTRIBUTES_MASK = "FBFFFFFFFFFFFFFF0000000000000000"


def build_collateral(endorsements: Endorsements, pki: Pki, now: int) -> Collateral:
    """Return a complete, signed set; times in `endorsements` count from `now`."""
    key, chain = pki.signer(endorsements.signer)
    tcb_info = _compact(_tcb_info(endorsements, now))
    qe_identity = _compact(_qe_identity(endorsements, now))
    return Collateral(
        pck_crl_issuer_chain=pki.crl_issuer_chain() if endorsements.crl_issuer_chain else "",
        root_ca_crl=pki.root_crl(endorsements, now),
        pck_crl=pki.pck_crl(endorsements, now),
        tcb_info_issuer_chain=chain,
        tcb_info=tcb_info,
        tcb_info_signature=sign_raw(key, tcb_info.encode()),
        qe_identity_issuer_chain=chain,
        qe_identity=qe_identity,
        qe_identity_signature=sign_raw(key, qe_identity.encode()),
    )


def _tcb_info(endorsements: Endorsements, now: int) -> dict[str, Any]:
    module = {
        "mrsigner": endorsements.module_mr_signer.hex().upper(),
        "attributes": endorsements.module_attributes.hex().upper(),
        "attributesMask": "FF" * 8,
    }
    return {
        "id": endorsements.tcb_id,
        "version": 3,
        "issueDate": _rfc3339(now + endorsements.tcb_issued),
        "nextUpdate": _rfc3339(now + endorsements.tcb_expires),
        "fmspc": endorsements.fmspc.hex().upper(),
        "pceId": endorsements.pce_id.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": endorsements.evaluation_number,
        "tdxModule": module,
        "tdxModuleIdentities": [
            {
                "id": f"TDX_{version:02X}",
                **module,
                "tcbLevels": [_svn_level(level) for level in endorsements.module_levels],
            }
            for version in endorsements.module_versions
        ],
        "tcbLevels": [_tcb_level(level) for level in endorsements.levels],
    }


def _qe_identity(endorsements: Endorsements, now: int) -> dict[str, Any]:
    return {
        "id": endorsements.qe_id,
        "version": 2,
        "issueDate": _rfc3339(now + endorsements.qe_issued),
        "nextUpdate": _rfc3339(now + endorsements.qe_expires),
        "tcbEvaluationDataNumber": endorsements.qe_evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": _QE_ATTRIBUTES,
        "attributesMask": _QE_ATTRIBUTES_MASK,
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": QE_ISV_PROD_ID,
        "tcbLevels": [_svn_level(level) for level in endorsements.qe_levels],
    }


def _tcb_level(level: TcbLevel) -> dict[str, Any]:
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in level.sgx],
        "pcesvn": level.pce_svn,
        "tdxtcbcomponents": [{"svn": svn} for svn in level.tdx],
    }
    return _level(tcb, level)


def _svn_level(level: SvnLevel) -> dict[str, Any]:
    return _level({"isvsvn": level.isv_svn}, level)


def _level(tcb: dict[str, Any], level: TcbLevel | SvnLevel) -> dict[str, Any]:
    result: dict[str, Any] = {"tcb": tcb, "tcbDate": level.date, "tcbStatus": level.status}
    if level.advisories:
        result["advisoryIDs"] = list(level.advisories)
    return result


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rfc3339(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
