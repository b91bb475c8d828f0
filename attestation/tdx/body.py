"""The TD report inside a quote: what the TDX module said about one trust domain."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from attestation.errors import MalformedError

SIZE_10 = 584
SIZE_15 = 648

# TDATTRIBUTES that make a domain unacceptable whatever else it shows, each with its code.
# Bits 1-3, 7-15, 23-26 and 32-61 are reserved; 4-6 let the host profile the domain; 17 lets a
# service domain attach to it (Intel TDX Module ABI specification, TDATTRIBUTES).
_REFUSED_BITS = (
    (0x0000_0000_0000_0001, "debug"),
    (0x3FFF_FFFF_0780_FFFE, "reserved_bits"),
    (0x0000_0000_0002_0000, "service_td"),
    (0x0000_0000_2000_0000, "migratable"),
)
_SEPT_VE_DISABLE = 1 << 28
_ATTRIBUTES = {
    0: "DEBUG",
    4: "profiling (bit 4)",
    5: "profiling (bit 5)",
    6: "profiling (bit 6)",
    17: "SERVTD_EXT",
    27: "LASS",
    29: "MIGRATABLE",
    30: "PKS",
    31: "KL",
    63: "PERFMON",
}

_FORMAT_10 = struct.Struct("<16s48s48s8sQQ48s48s48s48s48s48s48s48s64s")
_FORMAT_15_TAIL = struct.Struct("<16s48s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """The fields of TD report 1.0 and, where present, 1.5 (Intel TDX DCAP quoting library, A.3.2).

    Measurements are 48 bytes (SHA-384); `report_data` is 64 bytes; the attribute words are
    little-endian 64-bit integers.  `tee_tcb_svn2` and `mr_service_td` exist in 1.5 only.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: int
    xfam: int
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = None

    @property
    def debug(self) -> bool:
        """TDATTRIBUTES bit 0: the host can read and write this domain's memory."""
        return bool(self.td_attributes & 1)

    @property
    def sept_ve_disable(self) -> bool:
        """TDATTRIBUTES bit 28: the host cannot inject #VE by unmapping private pages."""
        return bool(self.td_attributes & _SEPT_VE_DISABLE)

    @property
    def migratable(self) -> bool:
        """TDATTRIBUTES bit 29: the domain may move to another platform."""
        return bool(self.td_attributes >> 29 & 1)

    @property
    def refused_attributes(self) -> frozenset[str]:
        """The codes of everything in the attributes that no genuine-quote check lets pass.

        Of debug, reserved_bits, service_td, migratable, sept_ve; read from the bits alone.
        """
        codes = {code for mask, code in _REFUSED_BITS if self.td_attributes & mask}
        if not self.sept_ve_disable:
            codes.add("sept_ve")
        if self.mr_service_td is not None and any(self.mr_service_td):
            codes.add("service_td")
        return frozenset(codes)

    @property
    def unusual_attributes(self) -> tuple[str, ...]:
        """Everything in TDATTRIBUTES that differs from SEPT_VE_DISABLE alone, by its name."""
        usual = () if self.sept_ve_disable else ("SEPT_VE_DISABLE off",)
        others = self.td_attributes & ~_SEPT_VE_DISABLE
        bits = (bit for bit in range(64) if others >> bit & 1)
        return (*usual, *(_ATTRIBUTES.get(bit, f"bit {bit}") for bit in bits))


def parse_report(data: bytes) -> TdReport:
    """Parse the 584 bytes of TD report 1.0 or the 648 bytes of 1.5.

    Every bit pattern of these sizes is a report; another size raises `MalformedError`.
    """
    if len(data) not in (SIZE_10, SIZE_15):
        raise MalformedError(
            "the TD report has the wrong size",
            code="quote",
            expected=f"{SIZE_10} or {SIZE_15} bytes",
            observed=f"{len(data)} bytes",
        )
    fields = _FORMAT_10.unpack_from(data)
    tail: tuple[bytes | None, bytes | None] = (None, None)
    if len(data) == SIZE_15:
        tail = _FORMAT_15_TAIL.unpack_from(data, SIZE_10)
    return TdReport(
        tee_tcb_svn=fields[0],
        mr_seam=fields[1],
        mr_signer_seam=fields[2],
        seam_attributes=fields[3],
        td_attributes=fields[4],
        xfam=fields[5],
        mrtd=fields[6],
        mr_config_id=fields[7],
        mr_owner=fields[8],
        mr_owner_config=fields[9],
        rtmrs=fields[10:14],
        report_data=fields[14],
        tee_tcb_svn2=tail[0],
        mr_service_td=tail[1],
    )
