"""The SGX extension of a PCK certificate: which platform signed, at which TCB.

Layout: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification,
section 1.3.5, OID 1.2.840.113741.1.13.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

from attestation.errors import MalformedError
from attestation.tdx import der

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
_OID_PREFIX = bytes.fromhex("2a864886f84d010d01")

_PPID, _TCB, _PCE_ID, _FMSPC, _SGX_TYPE, _PIID, _CONFIGURATION = range(1, 8)
_PCE_SVN, _CPU_SVN = 17, 18


@dataclass(frozen=True, slots=True, kw_only=True)
class PckExtension:
    """Platform identity and TCB as the PCK certificate states them.

    `ppid` 16, `cpu_svn` 16, `pce_id` 2, `fmspc` 6 and `piid` 16 bytes; `components` are the 16
    SVNs that TCB levels are compared with.  `sgx_type` is 0 standard, 1 scalable, 2 scalable
    with integrity.  `piid` and the three configuration flags exist on multi-package platforms
    only and are None elsewhere.
    """

    ppid: bytes
    cpu_svn: bytes
    components: tuple[int, ...]
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    piid: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_pck_extension(certificate: x509.Certificate) -> PckExtension:
    """Read the SGX extension of `certificate`, or raise `MalformedError`."""
    try:
        found = certificate.extensions.get_extension_for_oid(
            x509.ObjectIdentifier(SGX_EXTENSION_OID)
        )
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise MalformedError(
            "the PCK certificate has no readable SGX extension",
            code="pck",
            expected=f"one extension {SGX_EXTENSION_OID}",
        ) from error
    return parse_pck_extension_value(found.value.public_bytes())


def parse_pck_extension_value(data: bytes) -> PckExtension:
    """Read the DER value of the SGX extension, or raise `MalformedError`."""
    top = _pairs(data, _OID_PREFIX)
    tcb = _pairs(_required(top, _TCB), _OID_PREFIX + bytes([_TCB]))
    flags = {}
    if _CONFIGURATION in top:
        flags = _pairs(top[_CONFIGURATION], _OID_PREFIX + bytes([_CONFIGURATION]))
    return PckExtension(
        ppid=der.read_octets(_required(top, _PPID), length=16),
        cpu_svn=der.read_octets(_required(tcb, _CPU_SVN), length=16),
        components=tuple(
            der.read_integer(_required(tcb, number), maximum=0xFF) for number in range(1, 17)
        ),
        pce_svn=der.read_integer(_required(tcb, _PCE_SVN), maximum=0xFFFF),
        pce_id=der.read_octets(_required(top, _PCE_ID), length=2),
        fmspc=der.read_octets(_required(top, _FMSPC), length=6),
        sgx_type=_sgx_type(_required(top, _SGX_TYPE)),
        piid=der.read_octets(top[_PIID], length=16) if _PIID in top else None,
        dynamic_platform=_flag(flags, 1),
        cached_keys=_flag(flags, 2),
        smt_enabled=_flag(flags, 3),
    )


def _pairs(data: bytes, prefix: bytes) -> dict[int, bytes]:
    """Read SEQUENCE OF SEQUENCE { OID, value }; the keys are the last arc of each OID."""
    rest = der.read_only_value(data, der.SEQUENCE)
    pairs: dict[int, bytes] = {}
    while rest:
        pair, rest = der.read_value(rest, der.SEQUENCE)
        oid, value = der.read_value(pair, der.OBJECT_IDENTIFIER)
        arc = oid[len(prefix) :]
        if not oid.startswith(prefix) or len(arc) != 1 or arc[0] in pairs:
            raise MalformedError(
                "the SGX extension names something unexpected",
                code="pck",
                expected="each of Intel's object identifiers at most once",
            )
        pairs[arc[0]] = value
    return pairs


def _required(pairs: dict[int, bytes], arc: int) -> bytes:
    if arc not in pairs:
        raise MalformedError(
            "the SGX extension lacks a field", code="pck", expected=f"a field numbered {arc}"
        )
    return pairs[arc]


def _sgx_type(data: bytes) -> int:
    contents = der.read_only_value(data, der.ENUMERATED)
    if contents not in (b"\x00", b"\x01", b"\x02"):
        raise MalformedError(
            "the SGX extension has an unknown SGX type", code="pck", expected="0, 1 or 2"
        )
    return contents[0]


def _flag(flags: dict[int, bytes], arc: int) -> bool | None:
    return der.read_boolean(flags[arc]) if arc in flags else None
