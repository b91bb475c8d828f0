"""The cases that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from benchmarks.edge.dialogue import HOLD, KILOBYTE

_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A load.  `kind` is what the load generator does: "closed", "bursts" or "hold"."""

    name: str
    about: str
    in_flight: int
    kind: str = "closed"
    size: int = KILOBYTE
    events: int = 0
    delay_ms: int = 0
    repeat: int = 1
    share: float = 1.0
    once: bool = False

    @property
    def unit(self) -> str:
        """What is counted: events of streams that run for the whole time, else answers."""
        return "event" if self.events and self.kind == "closed" else "request"

    def order(self, seconds: float) -> dict[str, Any]:
        """Return the case as the load generator is told it."""
        return {
            "do": self.kind,
            "in_flight": self.in_flight,
            "size": self.size,
            "events": self.events,
            "delay_ms": self.delay_ms,
            "repeat": self.repeat,
            "seconds": seconds * self.share,
            "warm": min(1.0, 0.25 * seconds) if not self.delay_ms else 1.0,
        }


_STREAM: Final = 200
CASES: Final = {
    case.name: case
    for case in (
        *(
            Case(name=f"plain-{n}", about=f"1 KiB / 1 KiB, {n} in flight", in_flight=n)
            for n in (1, 32, 256)
        ),
        *(
            Case(
                name=f"stream-{n}",
                about=f"200 events without delay, {n} in flight",
                in_flight=n,
                events=_STREAM,
            )
            for n in (1, 32, 128)
        ),
        Case(
            name="paced-50",
            about="200 events at 10 ms, 50 in flight: an event at a time",
            in_flight=50,
            events=_STREAM,
            delay_ms=10,
            share=1.5,
        ),
        Case(
            name="paced-200",
            about="200 events at 10 ms, 200 in flight: 20,000 events a second",
            in_flight=200,
            events=_STREAM,
            delay_ms=10,
            share=1.5,
        ),
        Case(name="body-1m", about="1 MiB bodies, 4 in flight", in_flight=4, size=_MEBIBYTE),
        Case(name="body-8m", about="8 MiB bodies, 4 in flight", in_flight=4, size=8 * _MEBIBYTE),
        Case(
            name="burst-100",
            about="100 new connections at once, streams of 20 events at 10 ms",
            in_flight=100,
            kind="bursts",
            events=20,
            delay_ms=10,
            repeat=5,
        ),
        Case(
            name="idle-10000",
            about="10,000 open streams without events",
            in_flight=10_000,
            kind="hold",
            events=2,
            delay_ms=HOLD,
            once=True,
        ),
    )
}

LEFT_OUT: Final[dict[str, tuple[str, ...]]] = {
    "litellm": tuple(name for name in CASES if name not in ("plain-1", "plain-32", "stream-1")),
    "naive": ("idle-10000",),
    "vllm-router-default": ("idle-10000",),
    "ours-2-workers": tuple(name for name in CASES if name not in ("plain-32", "stream-32")),
    "ours-no-receipts": ("idle-10000",),
}
"""Cases that a target is not put through: LiteLLM takes milliseconds of processor time for an
answer, httpx more for each further open stream; the rest would say nothing new."""


def fitting(case: Case, descriptors: int) -> Case:
    """Return a case with no more open streams than two descriptors each allow a proxy to have."""
    most = (descriptors - 300) // 2
    return case if case.in_flight <= most else replace(case, in_flight=most)
