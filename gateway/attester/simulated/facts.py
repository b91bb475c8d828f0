"""What can be steered: the machine, its trust domain, its endorsements, how a quote is written.

The defaults describe one healthy platform.  A fault is a value that differs from them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

DAY = 86_400

# Outside the range Intel assigns (they begin with the CPU's extended family and model).
SIMULATED_FMSPC = bytes.fromhex("fffefd000000")
USER_DATA = b"SIMULATED-NOT-INTEL\x00"
INTEL_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

SEPT_VE_DISABLE = 1 << 28
CPU_SVN = bytes((3, 3, 2, 2, 4, 1, 0, 5)) + bytes(8)
PCE_SVN = 13
TEE_TCB_SVN = bytes((6, 1, 3)) + bytes(13)
TDX_COMPONENTS = bytes((5, 0, 3)) + bytes(13)
QE_SIGNER = hashlib.sha256(b"simulated quoting enclave signer").digest()
QE_ATTRIBUTES = bytes.fromhex("1100000000000000e700000000000000")
QE_ISV_PROD_ID = 2
REGISTER = bytes(48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The platform: its identity, its TCB, its TDX module and its quoting enclave.

    `ppid` and `piid` are drawn from the platform's seed where they are None; `single_package`
    leaves the platform instance id and the configuration out of the PCK certificate.
    """

    fmspc: bytes = SIMULATED_FMSPC
    ppid: bytes | None = None
    piid: bytes | None = None
    single_package: bool = False
    cpu_svn: bytes = CPU_SVN
    pce_svn: int = PCE_SVN
    pce_id: bytes = b"\x00\x00"
    sgx_type: int = 1
    dynamic_platform: bool = True
    cached_keys: bool = True
    smt_enabled: bool = True
    tee_tcb_svn: bytes = TEE_TCB_SVN
    tee_tcb_svn2: bytes = TEE_TCB_SVN
    mr_seam: bytes = hashlib.sha384(b"simulated TDX module").digest()
    mr_signer_seam: bytes = REGISTER
    seam_attributes: bytes = bytes(8)
    qe_isv_svn: int = 6
    qe_isv_prod_id: int = QE_ISV_PROD_ID
    qe_mr_signer: bytes = QE_SIGNER
    qe_misc_select: bytes = bytes(4)
    qe_attributes: bytes = QE_ATTRIBUTES
    pck_not_before: int = -DAY
    pck_not_after: int = 7 * 365 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The trust domain that is quoted: attributes and measurements."""

    td_attributes: int = SEPT_VE_DISABLE
    xfam: int = 0x602E7
    mrtd: bytes = hashlib.sha384(b"simulated image").digest()
    mr_config_id: bytes = REGISTER
    mr_owner: bytes = REGISTER
    mr_owner_config: bytes = REGISTER
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (
        hashlib.sha384(b"simulated firmware configuration").digest(),
        hashlib.sha384(b"simulated boot loader").digest(),
        hashlib.sha384(b"simulated kernel and command line").digest(),
        REGISTER,
    )
    mr_service_td: bytes = REGISTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a quote is written down: version, framing, and what surrounds the signed region.

    `padding` zero bytes follow the quote; `final_nul` ends the PEM chain the way real quoting
    enclaves end it.  `complement_s` writes every ECDSA signature (r, s) as (r, n - s), which
    verifies just as well.
    """

    version: int = 4
    td_report_10_in_v5: bool = False
    vendor_id: bytes = INTEL_VENDOR_ID
    user_data: bytes = USER_DATA
    auth_data: bytes = bytes(range(32))
    outer_type: int = 6
    inner_type: int = 5
    final_nul: bool = True
    complement_s: bool = False
    padding: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One level of the platform's TCB: the least SVNs, and what Intel says about it."""

    sgx: bytes = CPU_SVN
    tdx: bytes = TDX_COMPONENTS
    pce_svn: int = PCE_SVN
    date: str = "2025-05-14T00:00:00Z"
    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SvnLevel:
    """One level of the TDX module or the quoting enclave: the least ISVSVN and a status."""

    isv_svn: int = 4
    date: str = "2025-05-14T00:00:00Z"
    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """What the simulated Intel says about platforms: TCB info, QE identity, revocation.

    Times are seconds relative to the platform's `now`.  `revoked` names certificates: "pck",
    "platform_ca", "tcb_signing".  `signer` is who signs TCB info and QE identity:
    "tcb_signing", or "pck", which no verifier may accept.
    """

    fmspc: bytes = SIMULATED_FMSPC
    pce_id: bytes = b"\x00\x00"
    tcb_id: str = "TDX"
    qe_id: str = "TD_QE"
    levels: tuple[TcbLevel, ...] = (TcbLevel(),)
    module_versions: tuple[int, ...] = (1,)
    module_levels: tuple[SvnLevel, ...] = (SvnLevel(),)
    module_mr_signer: bytes = REGISTER
    module_attributes: bytes = bytes(8)
    qe_levels: tuple[SvnLevel, ...] = (SvnLevel(),)
    evaluation_number: int = 20
    qe_evaluation_number: int = 20
    tcb_issued: int = -3600
    tcb_expires: int = 30 * DAY
    qe_issued: int = -3600
    qe_expires: int = 30 * DAY
    crl_issued: int = -3600
    crl_expires: int = 30 * DAY
    revoked: frozenset[str] = field(default_factory=frozenset)
    crl_extensions: bool = True
    crl_issuer_chain: bool = True
    signer: str = "tcb_signing"
