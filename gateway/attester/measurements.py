"""The measurement registers of the trust domain, through the kernel's own files.

Linux >= 6.16 shows each register as a file of 48 bytes; writing 48 bytes to a runtime register
extends it (Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.attester.base import REGISTER_BYTES, require_register_digest
from gateway.attester.kernel import named, opened, read_all

if TYPE_CHECKING:
    from gateway.attester.kernel import Kernel

FOLDERS = (
    Path("/sys/devices/virtual/misc/tdx_guest/measurements"),
    Path("/sys/class/misc/tdx_guest/measurements"),
)
REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig")
_HASHED = frozenset(("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"))
_ATTEMPTS = 3


class MeasurementRegisters:
    """The registers in one folder; `find_registers` says which."""

    def __init__(self, kernel: Kernel, folder: Path) -> None:
        self._kernel = kernel
        self.folder = folder

    def read(self, name: str) -> bytes:
        """Return the 48 bytes of a register of `REGISTERS`, as of now.

        Raises `UnavailableError` (code "register") where the kernel does not say.
        """
        try:
            value = read_all(self._kernel, self._path(name), REGISTER_BYTES)
        except OSError as error:
            raise self._unreadable(name, named(error)) from error
        if len(value) != REGISTER_BYTES:
            raise self._unreadable(name, f"{len(value)} bytes")
        return value

    def read_all(self) -> dict[str, bytes]:
        """Return every register by name."""
        return {name: self.read(name) for name in REGISTERS}

    def may_extend(self, index: int) -> bool:
        """Whether this process may extend a runtime register."""
        return self._kernel.may_write(self._path(f"rtmr{index}"))

    def extend(self, index: int, digest: bytes) -> None:
        """Set a runtime register to SHA-384(register, digest); it cannot be taken back.

        1. the register's value before
        2. one write of all 48 bytes: a partial one would be refused, and is never continued
        3. the register's value afterwards decides what happened, whatever the write returned:
           the expected value is an extension, the old one none (an interrupted write is made
           again), any other means that something else extends this register too

        Raises `UnavailableError` (code "rtmr_extend", or "rtmr_conflict" in the last case).
        """
        require_register_digest(digest)
        name = f"rtmr{index}"
        before = self.read(name)
        expected = hashlib.sha384(before + digest).digest()
        seen = "an interrupted write"
        for _ in range(_ATTEMPTS):
            failure = self._write(name, digest)
            after = self.read(name)
            if after == expected:
                return
            if after != before:
                raise UnavailableError(
                    f"{name} has a value that this extension does not explain",
                    code="rtmr_conflict",
                    expected="SHA-384 of its former value and the digest",
                    observed="another value",
                    hint="only the notary may extend it: find what else does, and restart the TD",
                )
            seen = failure or seen
            if failure:
                break
        raise UnavailableError(
            f"the kernel did not extend {name}",
            code="rtmr_extend",
            expected=f"one write of {REGISTER_BYTES} bytes to {self._path(name)}",
            observed=seen,
            hint="the notary's user must own this file; see the operating manual, quote providers",
        )

    def _write(self, name: str, digest: bytes) -> str:
        """Write once; return what went wrong, nothing where it went well or was interrupted."""
        try:
            with opened(self._kernel, self._path(name), os.O_WRONLY) as descriptor:
                taken = self._kernel.write(descriptor, digest)
        except InterruptedError:
            return ""
        except OSError as error:
            return named(error)
        return "" if taken == len(digest) else f"a write of {taken} bytes"

    def _path(self, name: str) -> Path:
        return self.folder / (f"{name}:sha384" if name in _HASHED else name)

    def _unreadable(self, name: str, observed: str) -> UnavailableError:
        return UnavailableError(
            f"the kernel does not show {name}",
            code="register",
            expected=f"{REGISTER_BYTES} bytes in {self._path(name)}",
            observed=observed,
        )


def find_registers(
    kernel: Kernel, folders: tuple[Path, ...] = FOLDERS
) -> MeasurementRegisters | None:
    """Return the registers this kernel shows, None where it shows none (Linux < 6.16)."""
    for folder in folders:
        if kernel.exists(folder / "rtmr3:sha384"):
            return MeasurementRegisters(kernel, folder)
    return None


def why_no_registers(kernel: Kernel) -> str:
    """Say in words why there are none, for people who want RTMR3 extended."""
    return (
        f"Linux {kernel.release()} shows no measurement registers: {FOLDERS[0]} is there from "
        "6.16 on, with the tdx_guest driver"
    )
