"""What the quote providers of a Linux guest share: registers, one quote at a time, sizes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from attestation.errors import UnavailableError, UsageError
from attestation.tdx.quote import MAX_QUOTE_BYTES
from gateway.attester.base import require_report_data
from gateway.attester.measurements import FOLDERS, find_registers, why_no_registers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.attester.kernel import Kernel
    from gateway.attester.measurements import MeasurementRegisters

RTMR3 = 3
RTMR3_CHOICES = ("auto", "on", "off")


class QuoteSource(Protocol):
    """Where a provider's quotes come from; called by one thread at a time."""

    def quote(self, report_data: bytes) -> bytes:
        """Return a fresh quote over 64 bytes, or raise `UnavailableError`."""


class GuestProvider:
    """A quote provider of the TD this process runs in, under Intel's root.

    `registers` are the ones it may extend, None where the kernel shows none or they are not to
    be used; `rtmr3_reason` says why in the latter cases, for people.
    """

    def __init__(
        self,
        name: str,
        source: QuoteSource,
        registers: MeasurementRegisters | None,
        *,
        rtmr3_reason: str = "",
    ) -> None:
        self.name = name
        self.rtmr3_reason = rtmr3_reason
        self._source = source
        self._registers = registers
        self._quoting = threading.Lock()

    @property
    def can_extend_rtmr3(self) -> bool:
        """Whether the kernel lets this process read and extend RTMR3."""
        return self._registers is not None

    def quote(self, report_data: bytes) -> bytes:
        """Return a fresh quote over 64 bytes; a second caller waits for the first."""
        require_report_data(report_data)
        with self._quoting:
            return fitting_quote(self._source.quote(report_data))

    def collateral(self) -> None:
        """Return None: the guest's kernel has no endorsements."""

    def anchor(self) -> None:
        """Return None: real quotes hang under Intel's root, which verifiers have."""

    def extend_rtmr3(self, digest: bytes, *, name: str, content: bytes) -> None:  # noqa: ARG002
        """Extend RTMR3 by 48 bytes and see that it took them; the kernel knows no names."""
        if self._registers is None:
            raise UnavailableError(
                "RTMR3 cannot be extended here",
                code="rtmr3",
                observed=self.rtmr3_reason,
                hint="a policy must then say unbound_keys to accept this gateway's keys",
            )
        self._registers.extend(RTMR3, digest)

    def read_rtmr3(self) -> bytes | None:
        """Return the current 48 bytes of RTMR3, None where the kernel does not show it."""
        return None if self._registers is None else self._registers.read("rtmr3")

    def event_log(self) -> None:
        """Return None: a kernel keeps no log of extensions, the notary does."""


def fitting_quote(data: bytes) -> bytes:
    """Return a quote without zero bytes beyond the size of the largest quote there is.

    Platforms pad what they hand out, to 8000 bytes or to the size of their buffer.  The padding
    after the quote itself is left to `canonical_quote`.  Raises `UnavailableError` for nothing at
    all (code "empty") and for something larger than any quote (code "overlong").
    """
    if not data.strip(b"\x00"):
        raise UnavailableError(
            "the platform gave an empty quote",
            code="empty",
            expected="a TDX quote of version 4 or 5",
            observed=f"{len(data)} bytes, none but zero",
            hint="the quoting service on the host failed: its log says why",
        )
    if data[MAX_QUOTE_BYTES:].strip(b"\x00"):
        raise UnavailableError(
            "the platform gave something larger than a quote",
            code="overlong",
            expected=f"at most {MAX_QUOTE_BYTES} bytes, then zero bytes alone",
            observed=f"{len(data)} bytes",
            hint="quotes in other formats (DICE, CWT) are not taken by this version",
        )
    return data[:MAX_QUOTE_BYTES]


def chosen_registers(
    kernel: Kernel, choice: str, folders: tuple[Path, ...] = FOLDERS
) -> tuple[MeasurementRegisters | None, str]:
    """Return the registers to extend by the option `rtmr3`, or None with the reason in words.

    "auto" takes them where the kernel has them, "on" demands them, "off" leaves them alone.
    Registers that are there and may not be written are never passed over in silence.
    Raises `UnavailableError`.
    """
    if choice == "off":
        return None, "rtmr3=off leaves the registers alone"
    found = find_registers(kernel, folders)
    if found is None:
        why = why_no_registers(kernel)
        if choice == "on":
            raise UnavailableError(
                "RTMR3 cannot be extended on this machine",
                code="rtmr3",
                expected="measurement registers, because of rtmr3=on",
                observed=why,
                hint="use a newer kernel, or rtmr3=auto and a policy with unbound_keys",
            )
        return None, why
    if not found.may_extend(RTMR3):
        path = found.folder / "rtmr3:sha384"
        raise UnavailableError(
            "this process may not extend RTMR3",
            code="rtmr3_permission",
            expected=f"write permission for {path}",
            observed="none",
            hint=f"chown the file to the notary's user at boot, or start with rtmr3=off: {path}",
        )
    return found, ""


def require_options(
    scheme: str, options: Mapping[str, str], known: Mapping[str, str]
) -> dict[str, str]:
    """Return `known` (name to default) overridden by `options`; raise `UsageError` for others."""
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise option_error(scheme, "options among " + ", ".join(sorted(known)), unknown[0])
    chosen = {**known, **options}
    if chosen["rtmr3"] not in RTMR3_CHOICES:
        raise option_error(scheme, "rtmr3= auto, on or off", chosen["rtmr3"])
    return chosen


def seconds_of(scheme: str, name: str, text: str, highest: float) -> float:
    """Return a decimal number of seconds above 0 and up to `highest`, or raise `UsageError`."""
    plain = text.isascii() and text.replace(".", "", 1).isdigit() and len(text) <= 8
    value = float(text) if plain else 0.0
    if not 0 < value <= highest:
        raise option_error(scheme, f"{name}= seconds above 0, up to {highest:g}", text)
    return value


def absolute(scheme: str, what: str, text: str) -> Path:
    """Return an absolute path, or raise `UsageError`."""
    if not text.startswith("/") or "\x00" in text:
        raise option_error(scheme, f"{what}: an absolute path", text)
    return Path(text)


def option_error(scheme: str, expected: str, observed: str) -> UsageError:
    """Return the error for a URI of a provider that says something else than it may."""
    return UsageError(
        f"the {scheme}: provider was given something it does not know",
        code="provider",
        expected=expected,
        observed=observed[:80],
        hint="see the operating manual, quote providers",
    )
