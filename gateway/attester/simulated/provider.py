"""The `simulated:` quote provider: a simulated platform behind the protocol of real ones."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError, UsageError
from gateway.attester.base import require_register_digest
from gateway.attester.simulated.facts import Domain, Endorsements, TcbLevel, Writing
from gateway.attester.simulated.platform import SimulatedPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral

_MAX_LATENCY = 60.0
_OPTIONS = ("latency", "rtmr3", "seed", "tcb_status", "version")
_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
_SECONDS = re.compile(r"\d{1,2}(\.\d{1,3})?", re.ASCII)
_SEED = re.compile(r"(?:[0-9a-f]{2}){16,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDevices:
    """Where Linux shows a real TDX guest device."""

    nodes: tuple[Path, ...] = (Path("/dev/tdx_guest"), Path("/dev/tdx-guest"))
    tsm_reports: Path = Path("/sys/kernel/config/tsm/report")

    def found(self) -> str | None:
        """Return what shows that this machine is a TDX guest, or None."""
        for node in self.nodes:
            if node.exists():
                return str(node)
        for provider in sorted(self.tsm_reports.glob("*/provider")):
            if "tdx" in provider.read_text(encoding="ascii", errors="replace"):
                return str(provider)
        return None


class SimulatedProvider:
    """Quotes from software, with a runtime register that really extends."""

    name = "simulated"

    def __init__(
        self,
        platform: SimulatedPlatform,
        *,
        latency: float = 0.0,
        can_extend_rtmr3: bool = True,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.can_extend_rtmr3 = can_extend_rtmr3
        self._platform = platform
        self._latency = latency
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._rtmr3 = platform.domain.rtmrs[3]

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes that shows the current RTMR3, after `latency` seconds."""
        with self._lock:
            if self._latency:
                self._sleep(self._latency)
            return self._platform.quote(report_data, domain=self._current_domain())

    def collateral(self) -> Collateral:
        """Return endorsements as of now."""
        return self._platform.collateral(at=int(self._clock()))

    def anchor(self) -> Anchor:
        """Return the platform's own root, which no verifier accepts unless told to."""
        return self._platform.anchor

    def extend_rtmr3(self, digest: bytes) -> None:
        """Set RTMR3 to SHA-384(RTMR3, digest), as the TDX module does."""
        require_register_digest(digest)
        if not self.can_extend_rtmr3:
            raise UnavailableError(
                "this simulated platform cannot extend RTMR3",
                code="rtmr3",
                hint="start it without rtmr3=off",
            )
        with self._lock:
            self._rtmr3 = hashlib.sha384(self._rtmr3 + digest).digest()

    def read_rtmr3(self) -> bytes | None:
        """Return RTMR3, or None where the platform hides it."""
        with self._lock:
            return self._rtmr3 if self.can_extend_rtmr3 else None

    def _current_domain(self) -> Domain:
        domain = self._platform.domain
        return replace(domain, rtmrs=(*domain.rtmrs[:3], self._rtmr3))


def open_simulated(
    address: str,
    options: Mapping[str, str],
    clock: Callable[[], float],
    *,
    devices: RealDevices | None = None,
) -> SimulatedProvider:
    """Open `simulated:?OPTIONS`, on a machine that has no real TDX device.

    Options: `version` 4 or 5; `latency` seconds a quote takes, up to 60; `rtmr3` on or off;
    `tcb_status` what the endorsements say of the platform; `seed` 32 to 128 hex digits, which
    makes the platform's keys predictable and is for tests alone.  Raises `UsageError`, or
    `UnavailableError` beside a real device: simulated evidence must never shadow real evidence.
    """
    found = (devices or RealDevices()).found()
    if found is not None:
        raise UnavailableError(
            "the simulated quote provider refuses to start on real TDX hardware",
            code="real_device",
            expected="a machine without a TDX guest device",
            observed=found,
            hint="use the real provider: configfs-tsm:",
        )
    _require_options(address, options)
    level = TcbLevel(status=options.get("tcb_status", "UpToDate"))
    seed = options.get("seed")
    platform = SimulatedPlatform(
        now=int(clock()),
        seed=None if seed is None else bytes.fromhex(seed),
        writing=Writing(version=int(options.get("version", "4"))),
        endorsements=Endorsements(levels=(level,)),
    )
    return SimulatedProvider(
        platform,
        latency=float(options.get("latency", "0")),
        can_extend_rtmr3=options.get("rtmr3", "on") == "on",
        clock=clock,
    )


def _require_options(address: str, options: Mapping[str, str]) -> None:
    unknown = sorted(options.keys() - set(_OPTIONS))
    if address or unknown:
        raise _usage("simulated:?OPTION=VALUE with " + ", ".join(_OPTIONS), *unknown[:1], address)
    if options.get("version", "4") not in ("4", "5"):
        raise _usage("version=4 or version=5", options["version"])
    if options.get("rtmr3", "on") not in ("on", "off"):
        raise _usage("rtmr3=on or rtmr3=off", options["rtmr3"])
    if options.get("tcb_status", "UpToDate") not in _STATUSES:
        raise _usage("tcb_status= one of " + ", ".join(_STATUSES), options["tcb_status"])
    latency = options.get("latency", "0")
    if not _SECONDS.fullmatch(latency) or float(latency) > _MAX_LATENCY:
        raise _usage(f"latency= seconds up to {_MAX_LATENCY:g}", latency)
    if not _SEED.fullmatch(options.get("seed", "00" * 32)):
        # The seed is what the keys are made of: it is not repeated in a message.
        raise _usage("seed= 32 to 128 lower-case hexadecimal digits")


def _usage(expected: str, *observed: str) -> UsageError:
    return UsageError(
        "the simulated: provider was given something it does not know",
        code="provider",
        expected=expected,
        observed=" ".join(text[:80] for text in observed if text),
    )
