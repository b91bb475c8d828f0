"""What kind of machine figures come from: its class, never its name, its user or its paths."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any


def describe_machine(folder: Path) -> dict[str, Any]:
    """Return processor, memory, kernel, Python, the kind of file system that `folder` is on, and
    how busy the machine was with other work when this was called.
    """
    return {
        "cpu": _first(r"model name\s*: (.*)", "/proc/cpuinfo"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_first(r"MemTotal:\s*(\d+)", "/proc/meminfo")) / (1 << 20)),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "file_system": _file_system(folder.resolve()),
        "load_before": round(os.getloadavg()[0], 1),
    }


def resident_mib(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    return round(int(_first(r"VmRSS:\s*(\d+)", f"/proc/{process}/status")) / 1024, 1)


def cpu_seconds(process: int) -> float:
    """Return the processor time a process has used so far, in user and in kernel mode."""
    after_name = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2]
    user, system = after_name.split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Return the processor time that all processes together have used since the machine started."""
    fields = [int(field) for field in _first(r"cpu +(.*)", "/proc/stat").split()]
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields[:8]
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _first(pattern: str, file: str) -> str:
    match = re.search(pattern, Path(file).read_text(encoding="utf-8"))
    return match[1].strip() if match else "0"


def _file_system(folder: Path) -> str:
    mounts = (line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines())
    around = [(point, kind) for _, point, kind, *_ in mounts if folder.is_relative_to(point)]
    return max(around, key=lambda mount: len(mount[0]))[1]
