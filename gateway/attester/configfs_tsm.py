"""`configfs-tsm:`: quotes from the kernel's report interface (Linux >= 6.7).

One entry under `/sys/kernel/config/tsm/report` is one request: 64 bytes into `inblob`, the quote
out of `outblob`.  An entry is a mutable object anybody with the right may write to; its
`generation` counts the writes (Documentation/ABI/testing/configfs-tsm-report).  The driver makes
one quote at a time, about one a second, and answers EBUSY while a quote it gave up waiting for is
still with the host.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import UnavailableError
from gateway.attester.guest import (
    GuestProvider,
    absolute,
    chosen_registers,
    require_options,
    seconds_of,
)
from gateway.attester.kernel import Kernel, named, read_all, write_all
from gateway.attester.tsm_advice import cannot_make_entry, wrong_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEME = "configfs-tsm"
ROOT = Path("/sys/kernel/config/tsm/report")
PROVIDER = "tdx_guest"
# The kernel's own bound was 32 KiB and is being raised for DICE and post-quantum quotes.
MAX_OUTBLOB = 4 * 1024 * 1024
_MAX_TEXT = 4096
_OPTIONS = {"patience": "20", "rtmr3": "auto"}
_MAX_PATIENCE = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
# Codes of "not now": the driver's buffer is still with the host (EBUSY), a signal came while it
# waited (EINTR, mostly taken care of below this), the host was too slow (ETIMEDOUT).
_AGAIN = frozenset((errno.EBUSY, errno.EINTR, errno.ETIMEDOUT, errno.EAGAIN))
T = TypeVar("T")
_OURS = re.compile(r"attested-(\d{1,10})-[0-9a-f]{32}", re.ASCII)


class TsmReports:
    """Quotes through entries of its own below `root`.

    `patience` is for how many seconds a busy driver is asked again.
    """

    def __init__(self, kernel: Kernel, root: Path = ROOT, *, patience: float = 20.0) -> None:
        self._kernel = kernel
        self._root = root
        self._patience = patience

    def require_usable(self) -> None:
        """Raise `UnavailableError` that says what is missing; sweep what a crash left behind."""
        self._sweep()
        self._in_entry(self._require_tdx)

    def quote(self, report_data: bytes) -> bytes:
        """Return what the platform gave, padding and all.  Raises `UnavailableError`.

        1. a fresh entry under an unpredictable name, for this quote alone
        2. it belongs to the TDX driver; its generation before
        3. the report data; the kernel takes it when the file is closed and reports no failure
           there, so that only the generation shows that it was taken
        4. the quote, to the end of the file, asked for again while the driver is busy
        5. the generation again: one write, ours, between the first look and the last byte
        6. the entry is removed, also after a failure
        """
        return self._in_entry(lambda entry: self._quoted(entry, report_data))

    def _quoted(self, entry: Path, report_data: bytes) -> bytes:
        self._require_tdx(entry)
        written = self._generation(entry) + 1
        write_all(self._kernel, entry / "inblob", report_data)
        self._require_generation(entry, written)
        quote = self._patiently(lambda: read_all(self._kernel, entry / "outblob", MAX_OUTBLOB))
        self._require_generation(entry, written)
        return quote

    def _in_entry(self, action: Callable[[Path], T]) -> T:
        entry = self._root / f"attested-{os.getpid()}-{secrets.token_hex(16)}"
        try:
            self._kernel.make_folder(entry)
        except OSError as error:
            raise cannot_make_entry(self._kernel, self._root, error) from error
        try:
            return action(entry)
        except OSError as error:
            raise _failed(error) from error
        finally:
            self._remove(entry)

    def _require_tdx(self, entry: Path) -> None:
        seen = self._text(entry / "provider")
        if seen != PROVIDER:
            raise wrong_provider(PROVIDER, seen)

    def _generation(self, entry: Path) -> int:
        text = self._text(entry / "generation")
        if not (text.isascii() and text.isdigit()):
            raise UnavailableError(
                "the kernel's report entry has no readable generation",
                code="tsm_generation",
                expected="a number",
                observed=repr(text[:20]),
            )
        return int(text)

    def _require_generation(self, entry: Path, expected: int) -> None:
        seen = self._generation(entry)
        if seen != expected:
            raise UnavailableError(
                "the kernel's report entry was not written exactly once",
                code="tsm_conflict",
                expected=f"generation {expected}",
                observed=f"generation {seen}",
                hint="only the notary may reach configfs: find what else writes there"
                if seen > expected
                else "the kernel did not take the report data: see its log",
            )

    def _patiently(self, read: Callable[[], bytes]) -> bytes:
        deadline = self._kernel.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return read()
            except OSError as error:
                if error.errno not in _AGAIN:
                    raise
                if self._kernel.monotonic() + pause > deadline:
                    raise _busy(error, self._patience) from error
            self._kernel.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _text(self, path: Path) -> str:
        return read_all(self._kernel, path, _MAX_TEXT).decode("ascii", "replace").strip()

    def _sweep(self) -> None:
        """Remove entries of ours whose process is gone; somebody else's are left alone."""
        names: list[str] = []
        with suppress(OSError):  # what is missing shows when an entry is made
            names = self._kernel.list_folder(self._root)
        for name in names:
            ours = _OURS.fullmatch(name)
            if ours and not self._is_running(int(ours.group(1))):
                self._remove(self._root / name)

    def _is_running(self, pid: int) -> bool:
        return pid != os.getpid() and self._kernel.is_process(pid)

    def _remove(self, entry: Path) -> None:
        # An entry that stays costs the kernel a few kilobytes, and the next start sweeps it.
        with suppress(OSError):
            self._kernel.remove_folder(entry)


def open_configfs_tsm(
    address: str,
    options: Mapping[str, str],
    _clock: Callable[[], float],
    *,
    kernel: Kernel | None = None,
) -> GuestProvider:
    """Open `configfs-tsm:[ROOT]?OPTIONS`.

    ROOT is the report folder, by default the kernel's.  Options: `patience`, the seconds for which
    a busy driver is asked again (20); `rtmr3` "auto" extends RTMR3 where the kernel can, "on"
    demands it, "off" leaves it alone.  Raises `UsageError`, or `UnavailableError` that says what
    this machine lacks.
    """
    kernel = kernel or Kernel()
    chosen = require_options(SCHEME, options, _OPTIONS)
    root = absolute(SCHEME, "the report folder", address) if address else ROOT
    patience = seconds_of(SCHEME, "patience", chosen["patience"], _MAX_PATIENCE)
    reports = TsmReports(kernel, root, patience=patience)
    reports.require_usable()
    registers, reason = chosen_registers(kernel, chosen["rtmr3"])
    return GuestProvider(SCHEME, reports, registers, rtmr3_reason=reason)


def _busy(error: OSError, patience: float) -> UnavailableError:
    return UnavailableError(
        "the kernel's quote driver stays busy",
        code="tsm_busy",
        expected=f"a quote within {patience:g} s",
        observed=named(error),
        hint="the host still owes an earlier quote: is its quoting service running?",
    )


def _failed(error: OSError) -> UnavailableError:
    denied = error.errno in (errno.EACCES, errno.EPERM)
    return UnavailableError(
        "the kernel gave no quote",
        code="tsm_permission" if denied else "tsm_failed",
        expected="64 bytes into inblob, a quote out of outblob",
        observed=named(error),
        hint=_HINTS.get(error.errno or 0, "see the kernel's log (dmesg), and the host's"),
    )


_ROOT_ONLY = "files below configfs belong to root: the notary needs root or CAP_DAC_OVERRIDE"
_HINTS = {
    errno.EACCES: _ROOT_ONLY,
    errno.EPERM: _ROOT_ONLY,
    errno.EIO: "the host refused: is its quoting service (QGS) installed, running and provisioned?",
    errno.EFBIG: "the host's quote is larger than this kernel takes: a newer kernel takes more",
    errno.ENXIO: "the tdx_guest driver was unloaded: modprobe tdx_guest",
    errno.ENOENT: "somebody removed the entry of the running quote: only the notary may",
    errno.ENOMEM: "the guest is out of memory",
}
