"""Why there is no quote from configfs on this machine, and what to do about it."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.attester.kernel import named

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.attester.kernel import Kernel

_EXPECTED = "a TDX guest with Linux 6.7 or newer, configfs mounted and the tdx_guest driver loaded"
_RELEASE = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(?![0-9])")
_OTHER_TEES = {"sev_guest": "an AMD SEV-SNP guest", "arm_cca_guest": "an Arm CCA guest"}


def cannot_make_entry(kernel: Kernel, root: Path, error: OSError) -> UnavailableError:
    """Return the error for an entry below `root` that could not be made."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _missing(kernel, root)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _unavailable(
            "this process may not ask the kernel for quotes",
            "tsm_permission",
            f"{named(error)} for a new folder in {root}",
            "start the notary as root or with CAP_DAC_OVERRIDE, and with configfs writable",
        )
    if error.errno == errno.ENXIO:
        return _unavailable(
            "no driver stands behind the kernel's report interface",
            "tsm_driver",
            f"{named(error)} for a new folder in {root}",
            "modprobe tdx_guest; if that fails, this machine is no TDX guest",
        )
    return _unavailable(
        "the kernel takes no request for a quote",
        "tsm_failed",
        f"{named(error)} for a new folder in {root}",
        "see the kernel's log (dmesg); remove entries that nobody uses from this folder",
    )


def wrong_provider(expected: str, seen: str) -> UnavailableError:
    """Return the error for a report interface of another technology."""
    machine = _OTHER_TEES.get(seen, "not a TDX guest")
    return UnavailableError(
        f"this machine is {machine}: its reports are no TDX quotes",
        code="tsm_provider",
        expected=expected,
        observed=seen[:40] or "no name",
        hint="this version takes TDX quotes alone",
    )


def _missing(kernel: Kernel, root: Path) -> UnavailableError:
    """Name the first thing that is missing on the way from /sys to the report folder."""
    tsm, configfs = root.parent, root.parent.parent
    release = kernel.release()
    if not kernel.exists(configfs):
        return _unavailable(
            "this kernel has no configfs",
            "tsm_missing",
            f"no {configfs} (Linux {release})",
            "modprobe configfs; a kernel built without CONFIG_CONFIGFS_FS gives no quotes",
        )
    if not kernel.exists(tsm) and not kernel.is_mount(configfs):
        return _unavailable(
            "configfs is not mounted",
            "tsm_missing",
            f"nothing mounted at {configfs}",
            f"mount -t configfs none {configfs}",
        )
    missing = tsm if not kernel.exists(tsm) else root
    return _unavailable(
        _old_or_no_driver(release),
        "tsm_missing",
        f"no {missing} (Linux {release})",
        "modprobe tdx_guest on Linux 6.7 or newer; inside a container, mount configfs into it",
    )


def _old_or_no_driver(release: str) -> str:
    if _version(release) < (6, 7):
        return "this kernel is too old to give quotes through configfs"
    return "the kernel's report interface is not there: no driver of a TEE is loaded"


def _version(release: str) -> tuple[int, int]:
    found = _RELEASE.match(release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _unavailable(message: str, code: str, observed: str, hint: str) -> UnavailableError:
    return UnavailableError(message, code=code, expected=_EXPECTED, observed=observed, hint=hint)
