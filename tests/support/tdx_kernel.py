"""A model of the parts of a TDX guest's kernel that quotes come from, with a simulated platform.

After the kernel's sources: drivers/virt/coco/guest/report.c (entries, generations, cached reports),
fs/configfs/file.c (binary attributes: what was written is stored when the file is closed, and
nobody hears whether that failed; a file that was written cannot be read), tdx-guest.c (one quote at
a time, EBUSY while the host keeps the buffer), tsm-mr.c (48 bytes at once, or EINVAL).
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.attester.kernel import Kernel
from gateway.attester.measurements import FOLDERS
from gateway.attester.simulated.facts import Domain
from gateway.attester.simulated.platform import SimulatedPlatform

CONFIGFS = Path("/sys/kernel/config")
TSM = CONFIGFS / "tsm"
REPORTS = TSM / "report"
DEVICE = Path("/dev/tdx_guest")
INBLOB_MAX = 64


def fault(number: int) -> OSError:
    """The error of a system call, of the class Python gives it."""
    return OSError(number, os.strerror(number))


@dataclass
class Entry:
    """One report item of configfs."""

    inblob: bytes = b""
    outblob: bytes | None = None
    written: int = 0
    read: int = 0


@dataclass
class OpenFile:
    """An open file: what it was opened for, and how far it was read or written."""

    path: Path
    flags: int
    position: int = 0
    filled: bytes | None = None
    written: bytes | None = None


@dataclass
class Faults:
    """What goes wrong, and when.

    `making` are what the next attempts to make a report fail with (0: none); `calls` what the next
    calls of a name ("make_folder", "write inblob", "read provider", …) fail with.  `chunk` is how
    many bytes one read or write moves at most.
    """

    making: deque[int] = field(default_factory=deque)
    calls: dict[str, deque[int]] = field(default_factory=dict)
    chunk: int = 1 << 20
    after_inblob: Callable[[Entry], None] = lambda _entry: None
    during_outblob: Callable[[Entry], None] = lambda _entry: None

    def strike(self, call: str) -> None:
        """Fail if this call is to fail now."""
        waiting = self.calls.get(call)
        number = waiting.popleft() if waiting else 0
        if number:
            raise fault(number)


class TdxKernel(Kernel):
    """The model.  Attributes say what the machine has; time passes only by `sleep`."""

    def __init__(self, platform: SimulatedPlatform) -> None:
        self.platform = platform
        self.provider = "tdx_guest"
        self.driver = True
        self.paths = {CONFIGFS, TSM, REPORTS, DEVICE}
        self.mounted = {CONFIGFS}
        self.version = "6.18.0-test"
        self.processes: set[int] = set()
        self.files: dict[Path, bytes] = {}
        self.entries: dict[str, Entry] = {}
        self.registers_at: Path | None = FOLDERS[0]
        self.rtmr3 = platform.domain.rtmrs[3]
        self.writable = True
        self.write_quotes: Callable[[bytes], bytes] = bytes
        self.write_report: Callable[[bytes], bytes] = bytes
        self.faults = Faults()
        self.slept: list[float] = []
        self.reports_made = 0
        self._open: dict[int, OpenFile] = {}
        self._next = 1000

    # folders

    def make_folder(self, path: Path) -> None:
        self.faults.strike("make_folder")
        if path.parent not in self.paths:
            raise fault(errno.ENOENT)
        if not self.driver:
            raise fault(errno.ENXIO)
        if path.name in self.entries:
            raise fault(errno.EEXIST)
        self.entries[path.name] = Entry()

    def remove_folder(self, path: Path) -> None:
        self.faults.strike("remove_folder")
        if path.name not in self.entries:
            raise fault(errno.ENOENT)
        del self.entries[path.name]

    def list_folder(self, path: Path) -> list[str]:
        self.faults.strike("list_folder")
        if path not in self.paths:
            raise fault(errno.ENOENT)
        return list(self.entries)

    def exists(self, path: Path) -> bool:
        known = path in self.paths or path in self.files
        return known or (path.parent == self.registers_at and path.name in self._registers())

    def is_mount(self, path: Path) -> bool:
        return path in self.mounted

    def may_write(self, path: Path) -> bool:
        return self.exists(path) and self.writable

    # files

    def open(self, path: Path, flags: int) -> int:
        self.faults.strike(f"open {path.name}")
        in_entry = path.parent.parent in self.paths and path.parent.name in self.entries
        if not in_entry and not self.exists(path):
            raise fault(errno.ENOENT)
        if path.parent == self.registers_at and flags == os.O_WRONLY and not self.writable:
            raise fault(errno.EACCES)
        if in_entry and path.name == "inblob" and flags != os.O_WRONLY:
            raise fault(errno.EACCES)
        if in_entry and path.name != "inblob" and flags != os.O_RDONLY:
            raise fault(errno.EACCES)
        self._next += 1
        self._open[self._next] = OpenFile(path, flags)
        return self._next

    def read(self, descriptor: int, length: int) -> bytes:
        file = self._open[descriptor]
        self.faults.strike(f"read {file.path.name}")
        if file.written is not None:
            raise fault(errno.ETXTBSY)
        if file.filled is None:
            file.filled = self._content(file.path)
        end = file.position + min(length, self.faults.chunk)
        part = file.filled[file.position : end]
        file.position += len(part)
        return part

    def write(self, descriptor: int, data: bytes) -> int:
        file = self._open[descriptor]
        self.faults.strike(f"write {file.path.name}")
        if file.path.parent == self.registers_at:
            return self._extend(file.path.name, data)
        if len(file.written or b"") + len(data) > INBLOB_MAX:
            raise fault(errno.EFBIG)
        part = data[: self.faults.chunk]
        file.written = (file.written or b"") + part
        return len(part)

    def close(self, descriptor: int) -> None:
        file = self._open.pop(descriptor)
        entry = self.entries.get(file.path.parent.name)
        if file.written is None or entry is None:
            return
        try:
            self.faults.strike("store inblob")
        except OSError:
            return  # fs/configfs: the result of the store is ignored
        self.store(entry, file.written)
        self.faults.after_inblob(entry)

    def store(self, entry: Entry, data: bytes) -> None:
        """What a write into an entry's inblob does, whoever wrote."""
        entry.written += 1
        entry.inblob = data

    @property
    def open_files(self) -> int:
        """How many files are open: none may be left."""
        return len(self._open)

    def _content(self, path: Path) -> bytes:
        if path in self.files:
            return self.files[path]
        if path.parent == self.registers_at:
            return self._registers()[path.name]
        entry = self.entries.get(path.parent.name)
        if entry is None:
            raise fault(errno.ENOENT)
        if path.name == "provider":
            return f"{self.provider}\n".encode()
        if path.name == "generation":
            return f"{entry.written}\n".encode()
        return self._report(entry)

    def _report(self, entry: Entry) -> bytes:
        if not entry.inblob:
            raise fault(errno.EINVAL)
        if entry.outblob is None or entry.read != entry.written:
            entry.outblob = None
            self.reports_made += 1
            number = self.faults.making.popleft() if self.faults.making else 0
            if number:
                raise fault(number)
            if len(entry.inblob) != INBLOB_MAX:
                raise fault(errno.EINVAL)
            self.faults.during_outblob(entry)
            entry.outblob = self.write_quotes(self.quote(entry.inblob))
            entry.read = entry.written
        return entry.outblob

    # the TDX module

    def domain(self) -> Domain:
        """The domain as it is now."""
        domain = self.platform.domain
        return replace(domain, rtmrs=(*domain.rtmrs[:3], self.rtmr3))

    def quote(self, report_data: bytes) -> bytes:
        """What the host's quoting enclave signs."""
        return self.platform.quote(report_data, domain=self.domain())

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        self.faults.strike("ioctl")
        file = self._open[descriptor]
        if file.path != DEVICE or request != 0xC4405401:
            raise fault(errno.ENOTTY)
        if len(argument) != 64 + 1024:
            raise fault(errno.EFAULT)
        report = td_report(self.platform, self.domain(), bytes(argument[:64]))
        argument[64:] = self.write_report(report)

    def _registers(self) -> dict[str, bytes]:
        domain = self.domain()
        hashed = {f"rtmr{index}:sha384": value for index, value in enumerate(domain.rtmrs)}
        return hashed | {
            "mrtd:sha384": domain.mrtd,
            "mrconfigid": domain.mr_config_id,
            "mrowner": domain.mr_owner,
            "mrownerconfig": domain.mr_owner_config,
        }

    def _extend(self, name: str, data: bytes) -> int:
        if name != "rtmr3:sha384" or len(data) != 48:
            raise fault(errno.EINVAL)
        self.rtmr3 = hashlib.sha384(self.rtmr3 + data).digest()
        return 48

    # the machine

    def is_process(self, pid: int) -> bool:
        return pid in self.processes

    def release(self) -> str:
        return self.version

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def td_report(platform: SimulatedPlatform, domain: Domain, report_data: bytes) -> bytes:
    """TDREPORT_STRUCT as the TDX module writes it, with a MAC that only the machine can check."""
    machine = platform.machine
    tcb_info = b"".join(
        (
            struct.pack("<Q", 0x301FF),
            machine.tee_tcb_svn,
            machine.mr_seam,
            machine.mr_signer_seam,
            machine.seam_attributes,
            machine.tee_tcb_svn2,
            bytes(95),
        )
    )
    td_info = b"".join(
        (
            struct.pack("<QQ", domain.td_attributes, domain.xfam),
            domain.mrtd,
            domain.mr_config_id,
            domain.mr_owner,
            domain.mr_owner_config,
            *domain.rtmrs,
            domain.mr_service_td,
            bytes(64),
        )
    )
    mac = b"".join(
        (
            bytes((0x81, 0, 1, 0)),
            bytes(12),
            machine.cpu_svn,
            hashlib.sha384(tcb_info).digest(),
            hashlib.sha384(td_info).digest(),
            report_data,
            bytes(32),
            hashlib.sha256(b"the machine's key" + report_data).digest(),
        )
    )
    return mac + tcb_info + bytes(17) + td_info


def quote_of_report(platform: SimulatedPlatform, report: bytes) -> bytes:
    """What a quoting enclave makes of a TD report: its fields, signed, whatever they are."""
    info = report[512:]
    values = [info[16 + 48 * index : 64 + 48 * index] for index in range(9)]
    attributes, xfam = struct.unpack_from("<QQ", info)
    domain = Domain(
        td_attributes=attributes,
        xfam=xfam,
        mrtd=values[0],
        mr_config_id=values[1],
        mr_owner=values[2],
        mr_owner_config=values[3],
        rtmrs=(values[4], values[5], values[6], values[7]),
        mr_service_td=values[8],
    )
    return platform.quote(report[128:192], domain=domain)
