"""The machine: kernel, CPU, devices and interfaces that evidence can come from.

Everything is read below `root`, so that a folder can stand for another machine.  Sources:
Documentation/ABI/testing/configfs-tsm-report and sysfs-devices-virtual-misc-tdx_guest of Linux;
the CCEL table of the UEFI specification.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attestation.errors import MalformedError
from attestation.tdx.eventlog import parse_ccel
from gateway.cli.checkup.finding import Finding, Level, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AREA = "machine"
_CONFIGFS_TSM, _VSOCK_QGS, _DSTACK = "configfs-tsm", "vsock-qgs", "dstack"
_REPORTS_SINCE = (6, 7)
_REGISTERS_SINCE = (6, 16)
_MAX_TABLE = 4 * 1024 * 1024
_MEASUREMENTS = (
    "sys/devices/virtual/misc/tdx_guest/measurements",
    "sys/class/misc/tdx_guest/measurements",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine's files below `root`, as somebody sees them who wants quotes from `scheme`.

    `scheme` is the configured provider's, "" where none is configured; `dstack_socket` is where
    the agent is looked for.
    """

    root: Path
    scheme: str = ""
    dstack_socket: str = "/var/run/dstack.sock"

    def findings(self) -> Iterator[Finding]:
        """Look at everything, in the order in which one depends on the other.

        What a configured provider does without needs nothing to be done about it.
        """
        for finding in self._looks():
            idle = bool(self.scheme) and finding.level is Level.ABSENT
            yield replace(finding, todo="") if idle else finding

    def _looks(self) -> Iterator[Finding]:
        cpu = self._cpu()
        yield self._kernel()
        yield cpu
        for look in (self._device, self._configfs, self._reports, self._measurements):
            finding = look()
            hopeless = cpu.level is Level.ABSENT is finding.level
            # One thing to do, and it is said beside the flag: without it the rest cannot be had.
            yield replace(finding, todo="") if hopeless else finding
        yield self._ccel()
        yield self._vsock()
        yield self._dstack()

    def _kernel(self) -> Finding:
        subject = _subject("kernel", "Linux")
        release = self._text("proc/sys/kernel/osrelease")
        if release is None:
            return subject.lacking(
                "no Linux kernel shows itself in /proc",
                "quotes are for Linux guests; simulated: works anywhere",
                needed=self.scheme in (_CONFIGFS_TSM, _VSOCK_QGS, _DSTACK),
            )
        found = re.match(r"(\d{1,3})\.(\d{1,4})", release, re.ASCII)
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        if version < _REPORTS_SINCE:
            return subject.lacking(
                f"{release}: older than 6.7, the first with an interface for quotes",
                "use a guest image with a newer kernel, or a provider that does without: dstack:",
                needed=self.scheme == _CONFIGFS_TSM,
                release=release,
            )
        if version < _REGISTERS_SINCE:
            return subject.warn(
                f"{release}: quotes yes, RTMR3 no (6.16 is the first to extend it)",
                'keys are then not bound to RTMR3: a policy needs unbound_keys = "allow"',
                release=release,
            )
        return subject.ok(release, release=release)

    def _cpu(self) -> Finding:
        subject = _subject("cpu", "CPU flag tdx_guest")
        flags = re.search(r"^flags\s*:(.*)$", self._text("proc/cpuinfo") or "", re.MULTILINE)
        if flags is not None and "tdx_guest" in flags[1].split():
            return subject.ok("set: this is a TDX guest")
        return subject.lacking(
            "not set: this machine is no TDX guest" if flags else "/proc/cpuinfo shows no flags",
            "start the guest as a trust domain, with a kernel built with CONFIG_INTEL_TDX_GUEST",
            needed=self.scheme in (_CONFIGFS_TSM, _VSOCK_QGS),
        )

    def _device(self) -> Finding:
        subject = _subject("device", "/dev/tdx_guest")
        mode = self._mode("dev/tdx_guest")
        if isinstance(mode, int) and stat.S_ISCHR(mode):
            others = stat.S_IMODE(mode) & 0o007
            if others:
                return subject.warn(
                    f"there, and everybody may open it (mode {stat.S_IMODE(mode):04o})",
                    "only the notary's user may reach quotes: chmod 0600",
                )
            return subject.ok("there")
        return subject.lacking(
            mode if isinstance(mode, str) else "there, and no device",
            "modprobe tdx_guest; if that fails, this machine is no TDX guest",
            needed=self.scheme == _VSOCK_QGS,
        )

    def _configfs(self) -> Finding:
        subject = _subject("configfs", "configfs")
        mounts = self._text("proc/mounts") or ""
        points = [fields[1] for fields in map(str.split, mounts.splitlines()) if _configfs(fields)]
        if "/sys/kernel/config" in points:
            return subject.ok("mounted at /sys/kernel/config")
        return subject.lacking(
            f"mounted at {points[0]} only" if points else "not mounted",
            "mount -t configfs none /sys/kernel/config (modprobe configfs, if there is no such "
            "folder); in a container, mount it into it",
            needed=self.scheme == _CONFIGFS_TSM,
        )

    def _reports(self) -> Finding:
        subject = _subject("reports", "configfs-tsm reports")
        name = "sys/kernel/config/tsm/report"
        folder, mode = self.root / name, self._mode(name)
        if isinstance(mode, str):
            return subject.lacking(
                mode,
                "modprobe tdx_guest, on Linux 6.7 or newer with CONFIG_TSM_REPORTS",
                needed=self.scheme == _CONFIGFS_TSM,
            )
        named = {self._text(path.relative_to(self.root)) for path in folder.glob("*/provider")}
        names = sorted(name.strip()[:40] for name in named if name)
        if names and names != ["tdx_guest"]:
            return subject.lacking(
                f"there, for {', '.join(names)}",
                "quotes of this version are TDX quotes alone",
                needed=self.scheme == _CONFIGFS_TSM,
            )
        if names:
            return subject.ok("there, its entries say tdx_guest", providers=names)
        return subject.ok("there; whose it is shows when a quote is asked for")

    def _measurements(self) -> Finding:
        subject = _subject("measurements", "measurement registers")
        real = self.scheme in (_CONFIGFS_TSM, _VSOCK_QGS)
        for name in _MEASUREMENTS:
            path = self.root / name / "rtmr3:sha384"
            mode = self._mode(path.relative_to(self.root))
            if isinstance(mode, str):
                continue
            if mode & 0o200:
                return subject.ok("RTMR3 can be read, and extended by its owner")
            return subject.warn(
                "RTMR3 can be read and not extended",
                'a policy needs unbound_keys = "allow" for keys that RTMR3 does not bind',
            )
        todo = "Linux 6.16 or newer shows them; else a policy needs unbound_keys"
        return subject.warn("not there", todo) if real else subject.absent("not there", todo)

    def _ccel(self) -> Finding:
        subject = _subject("ccel", "boot event log (CCEL)")
        path = self.root / "sys/firmware/acpi/tables/data/CCEL"
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_TABLE)
            events = len(parse_ccel(data).events)
        except FileNotFoundError:
            return subject.absent("the firmware keeps none: RTMR0 to 2 are then values alone")
        except OSError as error:
            return subject.warn(
                f"not readable: {error.strerror}", "read it as root: it is no secret"
            )
        except MalformedError as error:
            return subject.warn(
                f"there, and not readable as one: {error.message}", "attested eventlog says where"
            )
        return subject.ok(f"{events} events; see: attested eventlog", events=events)

    def _vsock(self) -> Finding:
        subject = _subject("vsock", "vsock")
        mode = self._mode("dev/vsock")
        if isinstance(mode, int):
            return subject.ok("/dev/vsock is there")
        return subject.lacking(
            f"/dev/vsock is {mode}",
            "modprobe vmw_vsock_virtio_transport, and give the guest a vsock device",
            needed=self.scheme == _VSOCK_QGS,
        )

    def _dstack(self) -> Finding:
        subject = _subject("dstack", "dstack agent's socket")
        mode = self._mode(self.dstack_socket.lstrip("/"))
        if isinstance(mode, int) and stat.S_ISSOCK(mode):
            return subject.ok(f"{self.dstack_socket} is there")
        return subject.lacking(
            f"{self.dstack_socket} is {mode if isinstance(mode, str) else 'no socket'}",
            "in a container of a dstack guest: mount it; elsewhere: another provider",
            needed=self.scheme == _DSTACK,
        )

    def _text(self, name: str | Path) -> str | None:
        try:
            return (self.root / name).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def _mode(self, name: str | Path) -> int | str:
        """Return the file's mode, or in words why there is none."""
        try:
            return (self.root / name).stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "not there"
        except OSError as error:
            return f"not to be looked at: {error.strerror}"


def _configfs(fields: list[str]) -> bool:
    return len(fields) > 2 and fields[2] == "configfs"


def _subject(name: str, title: str) -> Subject:
    return Subject(id=f"machine.{name}", area=AREA, title=title)
