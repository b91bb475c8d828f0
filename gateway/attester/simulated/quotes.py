"""Writing a quote: header, TD report, QE report, signatures, certification data.

Written from Intel's layout and apart from the parser in `attestation.tdx`, so that the two
check each other.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from gateway.attester.simulated.keys import complement_s, public_xy, sign_raw

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from gateway.attester.simulated.facts import Domain, Machine, Writing

_ECDSA_P256 = 2
_TDX = 0x81
_BODY_10, _BODY_15 = (2, 584), (3, 648)


def signed_region(machine: Machine, domain: Domain, writing: Writing, report_data: bytes) -> bytes:
    """Return what the attestation key signs: 632 bytes in version 4, 638 or 702 in version 5."""
    header = struct.pack("<HHIHH", writing.version, _ECDSA_P256, _TDX, 0, 0)
    header += writing.vendor_id + writing.user_data
    report = b"".join(
        (
            machine.tee_tcb_svn,
            machine.mr_seam,
            machine.mr_signer_seam,
            machine.seam_attributes,
            struct.pack("<QQ", domain.td_attributes, domain.xfam),
            domain.mrtd,
            domain.mr_config_id,
            domain.mr_owner,
            domain.mr_owner_config,
            *domain.rtmrs,
            report_data,
        )
    )
    if writing.version != 5:
        return header + report
    if writing.td_report_10_in_v5:
        return header + struct.pack("<HI", *_BODY_10) + report
    extended = report + machine.tee_tcb_svn2 + domain.mr_service_td
    return header + struct.pack("<HI", *_BODY_15) + extended


def qe_report(machine: Machine, attestation_key: bytes, auth_data: bytes) -> bytes:
    """Return the quoting enclave's 384-byte SGX report that vouches for the attestation key."""
    return b"".join(
        (
            machine.cpu_svn,
            machine.qe_misc_select,
            bytes(28),
            machine.qe_attributes,
            hashlib.sha256(b"simulated quoting enclave").digest(),
            bytes(32),
            machine.qe_mr_signer,
            bytes(96),
            struct.pack("<HH", machine.qe_isv_prod_id, machine.qe_isv_svn),
            bytes(60),
            hashlib.sha256(attestation_key + auth_data).digest(),
            bytes(32),
        )
    )


def assemble(
    region: bytes,
    report: bytes,
    writing: Writing,
    *,
    attestation_key: ec.EllipticCurvePrivateKey,
    pck_key: ec.EllipticCurvePrivateKey,
    chain: bytes,
) -> bytes:
    """Sign and frame: signature, key, QE report with its signature, certificate chain."""
    pem = chain + b"\x00" if writing.final_nul else chain
    certification = b"".join(
        (
            report,
            _signature(pck_key, report, writing),
            struct.pack("<H", len(writing.auth_data)),
            writing.auth_data,
            struct.pack("<HI", writing.inner_type, len(pem)),
            pem,
        )
    )
    data = b"".join(
        (
            _signature(attestation_key, region, writing),
            public_xy(attestation_key),
            struct.pack("<HI", writing.outer_type, len(certification)),
            certification,
        )
    )
    return region + struct.pack("<I", len(data)) + data + bytes(writing.padding)


def _signature(key: ec.EllipticCurvePrivateKey, data: bytes, writing: Writing) -> bytes:
    signature = sign_raw(key, data)
    return complement_s(signature) if writing.complement_s else signature
