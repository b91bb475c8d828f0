"""What the processes of a gateway hold, over time, and whether that is flat."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

# Measured with `python -m benchmarks.million`: 8 bytes of each receipt id for ever, and what stands
# in tables that have bounds (a task's last call, admissions, tiles at hand) until they are full.
BYTES_PER_RECEIPT = 128
SLACK_SHARE = 0.05
SLACK_BYTES = 4 << 20
SLACK_COUNT = 8
_MEMORY = ("rss", "pss", "anonymous")
_COUNTS = ("descriptors", "threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One process at one moment: bytes of memory, open descriptors, threads."""

    seconds: float
    receipts: int
    rss: int
    pss: int
    anonymous: int
    descriptors: int
    threads: int


def sample(pid: int, *, seconds: float, receipts: int) -> Sample:
    """Read what the kernel says of a process; raises `OSError` if it has ended."""
    process = Path(f"/proc/{pid}")
    rollup = (process / "smaps_rollup").read_text()
    status = (process / "status").read_text()
    return Sample(
        seconds=round(seconds, 1),
        receipts=receipts,
        rss=_kibibytes("Rss", rollup),
        pss=_kibibytes("Pss", rollup),
        anonymous=_kibibytes("Anonymous", rollup),
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
        threads=_number("Threads", status),
    )


def _number(name: str, text: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{name} is not there")
    return int(found[1])


def _kibibytes(name: str, text: str) -> int:
    return _number(name, text) * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One figure of one process: medians of the middle and the last third, and its bound."""

    role: str
    figure: str
    middle: float
    last: float
    allowed: float

    @property
    def flat(self) -> bool:
        return self.last - self.middle <= self.allowed

    def to_json(self) -> dict[str, object]:
        return {
            "role": self.role,
            "figure": self.figure,
            "middle": self.middle,
            "last": self.last,
            "allowed": round(self.allowed),
            "flat": self.flat,
        }

    def row(self) -> str:
        """A line of the table, memory in MiB."""
        unit = 1 << 20 if self.figure in _MEMORY else 1
        numbers = (self.middle, self.last, self.last - self.middle, self.allowed)
        shown = "".join(f"{number / unit:>12.1f}" for number in numbers)
        verdict = "flat" if self.flat else "GROWS"
        return f"{self.role:<12}{self.figure:<14}{shown}   {verdict}"


@dataclass(slots=True)
class Record:
    """The samples of every process of one run, by role."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def take(self, pids: dict[str, int], *, seconds: float, receipts: int) -> None:
        """Add a sample of each process that is there."""
        for role, pid in pids.items():
            with contextlib.suppress(OSError):
                one = sample(pid, seconds=seconds, receipts=receipts)
                self.samples.setdefault(role, []).append(one)

    def growths(self) -> list[Growth]:
        """Judge each figure of each process; needs three samples or more of it."""
        found = []
        for role, taken in self.samples.items():
            third = len(taken) // 3
            if not third:
                raise ValueError(f"{len(taken)} samples of {role}: expected three or more")
            middle, last = taken[third : 2 * third], taken[-third:]
            receipts = median(s.receipts for s in last) - median(s.receipts for s in middle)
            for figure in (*_MEMORY, *_COUNTS):
                before = median(getattr(one, figure) for one in middle)
                after = median(getattr(one, figure) for one in last)
                allowed = float(SLACK_COUNT)
                if figure in _MEMORY:
                    allowed = max(SLACK_BYTES, SLACK_SHARE * before)
                    allowed += BYTES_PER_RECEIPT * receipts if role == "notary" else 0
                found.append(
                    Growth(role=role, figure=figure, middle=before, last=after, allowed=allowed)
                )
        return found
