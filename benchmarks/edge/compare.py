"""Figures set in relation: to nginx and vllm-router, to the engine alone, and to the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.edge.cases import CASES

Figures = dict[str, dict[str, dict[str, Any]]]
"""By case, then by target."""
YARDSTICKS: Final = ("nginx", "vllm-router")
OURS: Final = "ours"
BARE: Final = "ours-no-receipts"
_STREAM_EVENTS: Final = 200
_MEBIBYTES: Final = 8
_IDLE: Final = 10_000
_TIMES: Final = ("latency_p50_ms", "latency_p99_ms", "delay_p50_ms", "delay_p99_ms")


def relate(figures: Figures) -> None:
    """Add to every figure what it is beside the others of its case, in the same run."""
    for name, by_target in figures.items():
        case, direct = CASES[name], by_target.get("direct")
        for one in by_target.values():
            for other in YARDSTICKS:
                one[f"cpu_x_{other}"] = _ratio(one, by_target.get(other), "cpu_us")
                one[f"first_p99_x_{other}"] = _ratio(one, by_target.get(other), "first_p99_ms")
            if direct is not None and direct is not one:
                one["over_direct"] = {
                    what: round(one[what] - direct[what], 3)
                    for what in _TIMES
                    if one[what] is not None and direct[what] is not None
                }
            if case.delay_ms and case.kind == "closed":
                ideal = case.in_flight * 1000 / case.delay_ms
                one["delivered_percent"] = round(100 * one["per_second"] / ideal, 1)
            if case.kind == "hold":
                grown = one["pss_mib"] - one["pss_before_mib"]
                one["kib_per_stream"] = round(1024 * grown / max(1, one["open"] or 0), 2)
                one["mib_of_10000"] = round(one["pss_before_mib"] + grown * _IDLE / one["open"], 1)


def _ratio(one: dict[str, Any], other: dict[str, Any] | None, what: str) -> float | None:
    if other is None or not other[what] or one[what] is None:
        return None
    return round(float(one[what] / other[what]), 3)


def receipts_add(figures: Figures) -> dict[str, float | None]:
    """Return what receipts add in worker and notary together, in microseconds.

    `event` is what is left of a stream's difference, by event, once what they add to its request
    is taken away; `event_with_request` is the whole difference, by event.
    """
    request = _added(figures, "plain-32")
    found: dict[str, float | None] = {"request": request}
    for case in ("stream-32", "paced-50", "paced-200"):
        whole = _added(figures, case)
        known = whole is not None and request is not None
        found[f"{case}: event_with_request"] = whole
        found[f"{case}: event"] = (
            round(whole - request / _STREAM_EVENTS, 2)
            if known and whole is not None and request is not None
            else None
        )
    return found


def _added(figures: Figures, case: str) -> float | None:
    ours, bare = (_get(figures, case, name, "cpu_us") for name in (OURS, BARE))
    return None if ours is None or bare is None else round(ours - bare, 2)


def _get(figures: Figures, case: str, target: str, what: str) -> float | None:
    value = figures.get(case, {}).get(target, {}).get(what)
    return None if value is None else float(value)


def _over(figures: Figures, case: str, other: str, what: str = "cpu_us") -> float | None:
    ours, theirs = _get(figures, case, OURS, what), _get(figures, case, other, what)
    return None if ours is None or not theirs else ours / theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on one figure: at most `bound`, or at least it where `least` says so."""

    text: str
    unit: str
    bound: float
    seen: Callable[[Figures], float | None]
    least: bool = False


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _failures(figures: Figures) -> float | None:
    ours = [by_target[OURS] for by_target in figures.values() if OURS in by_target]
    return float(sum(sum(one["failures"].values()) for one in ours)) if ours else None


def _per_mebibyte(figures: Figures) -> float | None:
    spent = _get(figures, "body-8m", OURS, "cpu_us")
    return None if spent is None else spent / 1000 / _MEBIBYTES


def _scaling(figures: Figures) -> float | None:
    one = _get(figures, "plain-32", OURS, "cpu_us")
    two = _get(figures, "plain-32", "ours-2-workers", "cpu_us")
    return None if two is None or not one else two / one


GOALS: Final = (
    Goal(
        text="CPU of a plain 1 KiB request, 32 in flight, over vllm-router's",
        unit="x",
        bound=1.5,
        seen=lambda f: _over(f, "plain-32", "vllm-router"),
    ),
    Goal(
        text="the same over vllm-router's as it starts by itself",
        unit="x",
        bound=1.5,
        seen=lambda f: _over(f, "plain-32", "vllm-router-default"),
    ),
    Goal(
        text="CPU of FastAPI + httpx for that request over ours",
        unit="x",
        bound=12,
        least=True,
        seen=lambda f: _inverse(_over(f, "plain-32", "naive")),
    ),
    *(
        Goal(
            text=f"CPU of a streamed event ({about}) over {other}'s",
            unit="x",
            bound=bound,
            seen=lambda f, case=case, other=other: _over(f, case, other),  # type: ignore[misc]
        )
        for case, about in (("paced-200", "200 streams, 10 ms"), ("stream-32", "32, no delay"))
        for other, bound in (("vllm-router", 1.0), ("nginx", 2.0))
    ),
    Goal(
        text="receipts add to a request, worker and notary",
        unit="us",
        bound=80,
        seen=lambda f: receipts_add(f)["request"],
    ),
    Goal(
        text="receipts add to a streamed event (50 streams, 10 ms), worker and notary",
        unit="us",
        bound=2,
        seen=lambda f: receipts_add(f)["paced-50: event"],
    ),
    Goal(
        text="20,000 events a second on one worker: delivered",
        unit="%",
        bound=95,
        least=True,
        seen=lambda f: _get(f, "paced-200", OURS, "delivered_percent"),
    ),
    Goal(
        text="100 new streams at once: first event, p99, over nginx's",
        unit="x",
        bound=3,
        seen=lambda f: _over(f, "burst-100", "nginx", "first_p99_ms"),
    ),
    Goal(text="8 MiB bodies: CPU of a MiB", unit="ms", bound=5, seen=_per_mebibyte),
    Goal(
        text="10,000 idle streams: memory of all processes",
        unit="MiB",
        bound=600,
        seen=lambda f: _get(f, "idle-10000", OURS, "mib_of_10000"),
    ),
    Goal(text="failures in all cases", unit="", bound=0, seen=_failures),
    Goal(
        text="two workers: CPU of a request over one worker's",
        unit="x",
        bound=1.2,
        seen=_scaling,
    ),
)


def judge(figures: Figures) -> list[dict[str, Any]]:
    """Return each goal with what was seen and "met", "not met" or "not measured"."""
    rows = []
    for goal in GOALS:
        seen = goal.seen(figures)
        if seen is None:
            verdict = "not measured"
        else:
            within = seen >= goal.bound if goal.least else seen <= goal.bound
            verdict = "met" if within else "not met"
        rows.append(
            {
                "goal": goal.text,
                "bound": f"{'>=' if goal.least else '<='} {goal.bound:g} {goal.unit}".rstrip(),
                "seen": None if seen is None else round(seen, 2),
                "verdict": verdict,
            }
        )
    return rows
