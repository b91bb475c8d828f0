"""A virtual machine for the image: QEMU without KVM, OVMF, a software TPM with a SHA-384 bank."""

from __future__ import annotations

import json
import mmap
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from image_files import ImageError, host
from image_tpm import Probe, ask_tpm, read_pcrs

MEMORY_MIB = 2048
GUEST_PORT = 8443
_OVMF = "/usr/share/OVMF"
_SPEC_ID = b"Spec ID Event03\0"
_HEADER = 32  # of the log's first event, before its data
_DIGEST_BYTES = {4: 20, 11: 32, 12: 48, 13: 64, 18: 32}  # by TCG algorithm identifier
_MAX_EVENT = 1 << 16
_PCRS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is booted: the disk, the folder for what the boot leaves, further QEMU arguments."""

    disk: Path
    folder: Path
    port: int
    extra: tuple[str, ...] = ()
    variables: Path | None = None


class Machine:
    """Runs inside `with`; both processes end with it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.port = plan.port
        self.serial = plan.folder / "serial.log"
        self._tpm: subprocess.Popen[bytes] | None = None
        self._qemu: subprocess.Popen[bytes] | None = None
        self._monitor: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # whatever it is, what was started ends
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        folder = self.plan.folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tpm").mkdir(parents=True)
        self._require(_host_run("cp", f"{_OVMF}/OVMF_CODE_4M.fd", folder / "code.fd"), "OVMF")
        if self.plan.variables is None:
            self._require(_host_run("cp", f"{_OVMF}/OVMF_VARS_4M.fd", folder / "vars.fd"), "OVMF")
        else:
            shutil.copy(self.plan.variables, folder / "vars.fd")
        banks = ("--pcr-banks", "sha256,sha384", "--overwrite")
        made = _host_run("swtpm_setup", "--tpm2", "--tpmstate", folder / "tpm", *banks)
        self._require(made, "swtpm_setup")
        socket_path = folder / "tpm.sock"
        self._tpm = self._spawn(
            "tpm.log",
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder / 'tpm'}"),
            *("--ctrl", f"type=unixio,path={socket_path}"),
        )
        self._wait(socket_path.exists, 30, "swtpm's socket")
        self._qemu = self._spawn("qemu.log", *self._command())
        self._wait((folder / "monitor.sock").exists, 60, "QEMU's monitor")
        self._connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._monitor is not None:
            self._monitor.close()
        for process in (self._qemu, self._tpm):
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def console(self) -> bytes:
        """What the guest has written to its serial port so far."""
        return self.serial.read_bytes() if self.serial.exists() else b""

    def wait_console(self, *texts: bytes, seconds: float) -> bytes:
        """The first of `texts` to be on the console; `ImageError` after `seconds`."""
        found: list[bytes] = []

        def seen() -> bool:
            console = self.console()
            found[:] = [text for text in texts if text in console]
            return bool(found)

        self._wait(seen, seconds, f"{texts[0].decode(errors='replace')!r} on the console")
        return found[0]

    def wait_ended(self, seconds: float) -> bool:
        """Whether the machine powers itself off within `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._qemu is None or self._qemu.poll() is not None:
                return True
            time.sleep(0.2)
        return False

    def execute(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - QMP's answer
        """One QMP command, and what it returns."""
        if self._monitor is None:
            raise ImageError("the machine is not running")
        message = {"execute": command, "arguments": arguments}
        self._monitor.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._line()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ImageError(f"QEMU refuses {command}: {answer['error']}")

    def event_log(self) -> bytes:
        """The TPM event log, out of the guest's memory: the image has no one to ask for it.

        To be taken when the kernel has just begun to run: the firmware's memory is given away
        then, and not yet used again.
        """
        return self.measured(())[0]

    def measured(self, pcrs: Collection[int]) -> tuple[bytes, dict[int, bytes]]:
        """The event log, and of the same moment the TPM's values of these PCRs (SHA-384)."""
        dump = self.plan.folder / "memory.bin"
        self.execute("stop")
        self.execute("pmemsave", val=0, size=MEMORY_MIB << 20, filename=str(dump))
        try:
            values = self._pcrs(pcrs) if pcrs else {}
            self.execute("cont")
            return find_log(dump), values
        finally:
            dump.unlink()

    def _pcrs(self, pcrs: Collection[int]) -> dict[int, bytes]:
        probe = Probe(self.plan.folder / "probe.sock")
        try:
            return read_pcrs(partial(ask_tpm, probe), pcrs)
        finally:
            probe.close()

    def _command(self) -> list[str]:
        folder, plan = self.plan.folder, self.plan
        flash = "if=pflash,format=raw"
        forward = f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{plan.port}-:{GUEST_PORT}"
        return [
            *("qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "Haswell-noTSX"),
            *("-m", str(MEMORY_MIB), "-smp", "1", "-display", "none", "-no-reboot"),
            *("-drive", f"{flash},unit=0,readonly=on,file={folder / 'code.fd'}"),
            *("-drive", f"{flash},unit=1,file={folder / 'vars.fd'}"),
            *("-drive", f"if=none,id=d,format=raw,readonly=on,file={plan.disk}"),
            *("-device", "virtio-blk-pci,drive=d,bootindex=1"),
            *("-netdev", forward, "-device", "virtio-net-pci,netdev=n,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-chardev", f"socket,id=c,path={folder / 'tpm.sock'}"),
            *("-tpmdev", "emulator,id=t,chardev=c", "-device", "tpm-crb,tpmdev=t"),
            *("-serial", f"file:{self.serial}"),
            *("-qmp", f"unix:{folder / 'monitor.sock'},server=on,wait=off"),
            *("-qtest", f"unix:{folder / 'probe.sock'},server=on,wait=off"),
            *("-qtest-log", "/dev/null"),
            *plan.extra,
        ]

    def _spawn(self, log: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.plan.folder / log).open("wb") as output:
            return subprocess.Popen(
                host(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _connect(self) -> None:
        monitor = socket.socket(socket.AF_UNIX)
        monitor.settimeout(120)
        monitor.connect(str(self.plan.folder / "monitor.sock"))
        self._monitor = monitor
        self._line()  # the greeting
        self.execute("qmp_capabilities")

    def _line(self) -> dict[str, Any]:
        data = b""
        while not data.endswith(b"\n"):
            try:
                byte = self._monitor.recv(1) if self._monitor is not None else b""
            except OSError:
                byte = b""
            if not byte:
                said = (self.plan.folder / "qemu.log").read_text(errors="replace")[-1000:]
                raise ImageError(f"QEMU closed its monitor, and says: {said}")
            data += byte
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _wait(self, seen: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not seen():
            ended = [p for p in (self._tpm, self._qemu) if p is not None and p.poll() is not None]
            if ended or time.monotonic() > end:
                why = "the machine has ended" if ended else f"{seconds:.0f} s are over"
                tail = self.console()[-3000:].decode(errors="replace")
                log = self.plan.folder / "qemu.log"
                said = log.read_text(errors="replace")[-1000:] if log.exists() else ""
                raise ImageError(f"expected {what}, but {why}; QEMU: {said}; console:\n{tail}")
            time.sleep(0.05)

    def _require(self, done: subprocess.CompletedProcess[bytes], what: str) -> None:
        if done.returncode:
            raise ImageError(f"{what}: {done.stderr.decode(errors='replace')[-1000:]}")


def _host_run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(host(*command), capture_output=True, check=False)


def free_port() -> int:
    """A TCP port on loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_log(dump: Path) -> bytes:
    """The longest TCG2 event log in a memory dump; `ImageError` if there is none."""
    best = b""
    with dump.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        at = memory.find(_SPEC_ID)
        while at >= 0:
            start = at - _HEADER
            if start >= 0:
                best = max(best, _whole_events(memory, start), key=len)
            at = memory.find(_SPEC_ID, at + 1)
    if not best:
        raise ImageError("expected a TPM event log in the guest's memory, seen none")
    return best


def _whole_events(memory: mmap.mmap, start: int) -> bytes:
    """The bytes of the log at `start`, up to the first that is no event any more."""
    pcr, kind = struct.unpack_from("<II", memory, start)
    (size,) = struct.unpack_from("<I", memory, start + 28)
    if (pcr, kind) != (0, 3) or size > _MAX_EVENT:
        return b""
    at = start + _HEADER + size
    while True:
        after = _after_event(memory, at)
        if after is None:
            return memory[start:at]
        at = after


def _after_event(memory: mmap.mmap, at: int) -> int | None:
    if at + 12 > len(memory):
        return None
    pcr, kind, count = struct.unpack_from("<III", memory, at)
    if pcr >= _PCRS or kind in {0, 0xFFFFFFFF} or not 0 < count <= len(_DIGEST_BYTES):
        return None
    at += 12
    for _ in range(count):
        (algorithm,) = struct.unpack_from("<H", memory, at)
        if algorithm not in _DIGEST_BYTES:
            return None
        at += 2 + _DIGEST_BYTES[algorithm]
    (size,) = struct.unpack_from("<I", memory, at)
    return at + 4 + size if size <= _MAX_EVENT and at + 4 + size <= len(memory) else None


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a disk that is mostly holes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["cp", "--sparse=always", str(source), str(target)], check=False, capture_output=True
    )
    if done.returncode:
        raise ImageError(f"copying {source.name}: {done.stderr.decode(errors='replace')}")
    target.chmod(0o600)
