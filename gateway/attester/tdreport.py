"""TDREPORT: what the TDX module says of this domain, before a quoting enclave signs it.

Request: `TDX_CMD_GET_REPORT0` of /dev/tdx_guest (linux/tdx-guest.h), 64 bytes of report data
followed by room for the 1024 bytes of the report.  Layout: Intel TDX module ABI specification,
TDREPORT_STRUCT = REPORTMACSTRUCT (256), TEE_TCB_INFO (239, then 17 reserved), TDINFO (512).
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.attester.base import REPORT_DATA_BYTES, require_report_data
from gateway.attester.kernel import named, opened, uninterrupted

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.tdx.body import TdReport
    from gateway.attester.kernel import Kernel

REPORT_BYTES = 1024
# _IOWR('T', 1, struct of 64 + 1024 bytes)
GET_REPORT0 = 3 << 30 | (REPORT_DATA_BYTES + REPORT_BYTES) << 16 | ord("T") << 8 | 1
_TDX_REPORT_TYPE = 0x81
_REPORT_DATA = struct.Struct("<128x64s")
_TCB_INFO = struct.Struct("<8x16s48s48s8s16s")
_TCB_INFO_OFFSET = 256
_TD_INFO = struct.Struct("<QQ48s48s48s48s48s48s48s48s48s")
_TD_INFO_OFFSET = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReport:
    """The fields that a quote repeats; `raw` is the whole report (1024 bytes).

    Names and units are those of `attestation.tdx.body.TdReport`.
    """

    raw: bytes
    report_data: bytes
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    tee_tcb_svn2: bytes
    td_attributes: int
    xfam: int
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mr_service_td: bytes

    def differences(self, body: TdReport) -> tuple[str, ...]:
        """Return the names of the fields in which a quote's body differs from this report."""
        names = [name for name in _COMPARED if getattr(body, name) != getattr(self, name)]
        for name in ("tee_tcb_svn2", "mr_service_td"):  # in bodies of TD report 1.5 alone
            value = getattr(body, name)
            if value is not None and value != getattr(self, name):
                names.append(name)
        return tuple(names)


_COMPARED = (
    "report_data", "tee_tcb_svn", "mr_seam", "mr_signer_seam", "seam_attributes", "td_attributes",
    "xfam", "mrtd", "mr_config_id", "mr_owner", "mr_owner_config", "rtmrs",
)  # fmt: skip


def pack_request(report_data: bytes) -> bytearray:
    """Return the ioctl's argument for 64 bytes of report data."""
    require_report_data(report_data)
    return bytearray(report_data + bytes(REPORT_BYTES))


def unpack_answer(argument: bytes | bytearray) -> LocalReport:
    """Return the report in the ioctl's argument as the kernel left it.

    Raises `UnavailableError` where it is no TDX report.
    """
    raw = bytes(argument[REPORT_DATA_BYTES:])
    if len(raw) != REPORT_BYTES or raw[0] != _TDX_REPORT_TYPE:
        raise UnavailableError(
            "the TDX device gave no TD report",
            code="tdreport",
            expected=f"{REPORT_BYTES} bytes of report type {_TDX_REPORT_TYPE:#x}",
            observed=f"{len(raw)} bytes" + (f" of type {raw[0]:#x}" if raw else ""),
            hint="is /dev/tdx_guest the kernel's own device?",
        )
    return _parsed(raw)


def _parsed(raw: bytes) -> LocalReport:
    (report_data,) = _REPORT_DATA.unpack_from(raw)
    svn, seam, signer, seam_attributes, svn2 = _TCB_INFO.unpack_from(raw, _TCB_INFO_OFFSET)
    td = _TD_INFO.unpack_from(raw, _TD_INFO_OFFSET)
    return LocalReport(
        raw=raw,
        report_data=report_data,
        tee_tcb_svn=svn,
        mr_seam=seam,
        mr_signer_seam=signer,
        seam_attributes=seam_attributes,
        tee_tcb_svn2=svn2,
        td_attributes=td[0],
        xfam=td[1],
        mrtd=td[2],
        mr_config_id=td[3],
        mr_owner=td[4],
        mr_owner_config=td[5],
        rtmrs=td[6:10],
        mr_service_td=td[10],
    )


def take_report(kernel: Kernel, device: Path, report_data: bytes) -> LocalReport:
    """Ask the TDX module for a report over 64 bytes.

    Raises `UnavailableError`, which says what is missing where there is no device.
    """
    argument = pack_request(report_data)
    try:
        with opened(kernel, device, os.O_RDWR) as descriptor:
            uninterrupted(partial(kernel.ioctl, descriptor, GET_REPORT0, argument))
    except OSError as error:
        raise _failed(device, error, kernel.release()) from error
    report = unpack_answer(argument)
    if report.report_data != report_data:
        raise UnavailableError(
            "the TDX device reported other data than it was given",
            code="tdreport",
            expected="the 64 bytes of the request",
            observed="other bytes",
        )
    return report


def _failed(device: Path, error: OSError, release: str) -> UnavailableError:
    hints = {
        errno.ENOENT: "modprobe tdx_guest on Linux 6.2 or newer; without it this is no TDX guest",
        errno.ENXIO: "the device's driver is gone: modprobe tdx_guest",
        errno.EACCES: "the notary's user must own this device (a udev rule), or be root",
        errno.EPERM: "the notary's user must own this device (a udev rule), or be root",
        errno.ENOTTY: "another device has this name",
    }
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return UnavailableError(
        "the TDX device gives no TD report",
        code="tdx_permission" if denied else "tdx_device",
        expected=f"{device}, opened for reading and writing",
        observed=f"{named(error)} (Linux {release})",
        hint=hints.get(error.errno or 0, "see the kernel's log (dmesg)"),
    )
