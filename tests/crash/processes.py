"""`attested serve` under the knife: its processes by role, and how to end each of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.serving import PATIENCE, PROGRAM, READY, environment


def wait_for(met: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Poll until `met()`; `TimeoutError` when the time is over."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: it did not happen in {seconds:g} s")
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> list[int]:
    """Every process that has `pid` among its forebears, parents first."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:  # it ended meanwhile
        return []
    return [found for child in children for found in (child, *descendants(child))]


@dataclass(slots=True, kw_only=True)
class Running:
    """One start of the gateway; its output is in `log`, a file of this start alone."""

    process: subprocess.Popen[bytes]
    log: Path
    workers: int
    seconds: float = 0.0

    @classmethod
    def begin(cls, folder: Path, number: int, workers: int) -> Running:
        """Start the gateway in `folder` without waiting for it."""
        log = folder / f"serve-{number}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [PROGRAM, "serve", "--config", "gateway.toml", "--workers", str(workers)],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        return cls(process=process, log=log, workers=workers)

    @classmethod
    def start(cls, folder: Path, number: int, workers: int) -> Running:
        """Start the gateway in `folder` and return once it is ready."""
        began = time.monotonic()
        running = cls.begin(folder, number, workers)
        process = running.process
        wait_for(lambda: running._ready or process.poll() is not None, "start")
        if process.poll() is not None:
            raise RuntimeError(f"the gateway did not start:\n{running.text}")
        running.seconds = time.monotonic() - began
        return running

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def events(self) -> list[dict[str, object]]:
        lines = (line for line in self.text.splitlines() if line.startswith("{"))
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def _ready(self) -> bool:
        block = self.text.partition(READY)[2]
        return "  channel" in block and block.endswith("\n")

    def _line(self, name: str) -> str:
        for line in self.text.partition(READY)[2].splitlines():
            if line[2:16].strip() == name:
                return line[17:].strip()
        raise LookupError(name)

    @property
    def port(self) -> int:
        return int(self._line("address").rpartition(":")[2])

    @property
    def admin_port(self) -> int:
        return int(self._line("admin").rpartition(":")[2])

    @property
    def origin(self) -> str:
        return self._line("log origin")

    @property
    def socket(self) -> Path:
        """The notary's socket, where it is a process of its own."""
        return Path(self._line("notary socket"))

    def pids(self, role: str) -> list[int]:
        """The living processes of a role: supervisor, notary or worker."""
        if role == "supervisor" or self.workers == 0:
            return [self.process.pid] if self.process.poll() is None else []
        return [
            pid
            for pid in descendants(self.process.pid)
            if alive(pid) and _is(pid, f"gateway.processes.{role}")
        ]

    def wait_gone(self) -> None:
        """Wait until no process of the gateway lives: it leaves none behind."""
        self.process.wait(PATIENCE)
        wait_for(lambda: not inhabitants(self.log.parent), "an orphan goes")


def inhabitants(folder: Path) -> list[int]:
    """Every process that works in `folder`, whoever is its parent by now."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            inside = (path / "cwd").readlink() == folder
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if inside and alive(int(path.name)):
            found.append(int(path.name))
    return found


def _is(pid: int, module: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return module.encode() in words


def kill(pid: int) -> None:
    """SIGKILL one process; it may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
