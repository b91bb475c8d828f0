"""Processor time and memory of other processes, finer than the ticks of /proc/PID/stat."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

_PSS: Final = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def cpu_ns(process: int) -> int:
    """Return the processor time of a process, all its threads, ended ones too, in nanoseconds.

    The process's CPU clock, whose number clock_getcpuclockid(3) makes of its id this way; 0 for a
    process that is gone.
    """
    try:
        return time.clock_gettime_ns((~process << 3) | 2)
    except OSError:
        return 0


def pss_kib(process: int) -> int:
    """Return the memory of a process in KiB, shared pages by their share; 0 if it is gone."""
    try:
        match = _PSS.search(Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parents.setdefault(_parent(entry), []).append(int(entry.name))
    found, todo = [], [process]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += parents.get(one, [])
    return found


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return -1
