"""The `simulated:` quote provider: a simulated platform behind the protocol of real ones."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from gateway.attester.base import require_register_digest
from gateway.attester.simulated.facts import Domain, Endorsements, TcbLevel, Writing
from gateway.attester.simulated.faults import Fault, FaultPlan
from gateway.attester.simulated.options import parse_options
from gateway.attester.simulated.platform import SimulatedPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attestation.tdx.anchor import Anchor
    from attestation.tdx.collateral import Collateral


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDevices:
    """Where Linux shows a real TDX guest device."""

    nodes: tuple[Path, ...] = (
        Path("/dev/tdx_guest"),
        Path("/dev/tdx-guest"),
        # Seen in containers as well, which often have no device nodes.
        Path("/sys/class/misc/tdx_guest"),
    )
    tsm_reports: Path = Path("/sys/kernel/config/tsm/report")
    cpu: Path = Path("/proc/cpuinfo")

    def found(self) -> str | None:
        """Return what shows that this machine is a TDX guest, or None."""
        for node in self.nodes:
            if node.exists():
                return str(node)
        for provider in sorted(self.tsm_reports.glob("*/provider")):
            if "tdx" in _text(provider):
                return str(provider)
        if "tdx_guest" in _text(self.cpu).split():
            return f"tdx_guest in {self.cpu}"
        return None


def _text(path: Path) -> str:
    # A report entry is there only while somebody's quote is made.
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii", errors="replace")
    return ""


class SimulatedProvider:
    """Quotes from software, with a runtime register that really extends.

    One quote is made at a time, as on a real platform: while one hangs, the next one waits.
    """

    name = "simulated"

    def __init__(
        self,
        platform: SimulatedPlatform,
        *,
        latency: float = 0.0,
        can_extend_rtmr3: bool = True,
        faults: FaultPlan | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.can_extend_rtmr3 = can_extend_rtmr3
        self._platform = platform
        self._latency = latency
        self._faults = faults or FaultPlan()
        self._asked = 0
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._quoting = threading.Lock()
        self._rtmr3 = platform.domain.rtmrs[3]

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote over 64 bytes that shows the current RTMR3, after `latency` seconds.

        By the fault plan it takes the seconds of a hang longer, or raises `UnavailableError`.
        """
        with self._quoting:
            fault = self._faults.fault(self._asked)
            self._asked += 1
            self._pass_time(self._latency + (self._faults.hang if fault is Fault.HANG else 0.0))
            if fault is Fault.FAILURE:
                raise UnavailableError(
                    "the simulated platform gives no quote this time",
                    code="simulated_failure",
                    hint="failure_rate= of evidence.provider asks for this",
                )
            with self._lock:
                return self._platform.quote(report_data, domain=self._current_domain())

    def collateral(self) -> Collateral:
        """Return endorsements as of now."""
        return self._platform.collateral(at=int(self._clock()))

    def anchor(self) -> Anchor:
        """Return the platform's own root, which no verifier accepts unless told to."""
        return self._platform.anchor

    def extend_rtmr3(self, digest: bytes, *, name: str, content: bytes) -> None:  # noqa: ARG002
        """Set RTMR3 to SHA-384(RTMR3, digest), as the TDX module does; it knows no names."""
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

    def event_log(self) -> None:
        """Return None: the simulated platform, like the kernel's, leaves the log to the notary."""

    def _pass_time(self, seconds: float) -> None:
        if seconds:
            self._sleep(seconds)

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

    Options: `version` 4 or 5; `latency` seconds a quote takes, up to 60; `failure_rate` and
    `hang_rate`, the shares of quotes that fail and that take `hang` seconds (60) longer, the
    first quote (the boot's) exempt unless `faults=all`; `rtmr3` on or off; `tcb_status` what the
    endorsements say of the platform; `seed` 32 to 128 hex digits, which makes the platform's
    keys and faults predictable and is for tests alone.  Raises `UsageError`, or
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
    asked = parse_options(address, options)
    platform = SimulatedPlatform(
        now=int(clock()),
        seed=asked.seed,
        writing=Writing(version=asked.version),
        endorsements=Endorsements(levels=(TcbLevel(status=asked.tcb_status),)),
    )
    return SimulatedProvider(
        platform,
        latency=asked.latency,
        can_extend_rtmr3=asked.can_extend_rtmr3,
        faults=asked.faults,
        clock=clock,
    )
