"""Running cases over targets in turns, and what is made of the figures."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from benchmarks.edge.cases import Case
from benchmarks.edge.meters import cpu_ns, pss_kib
from benchmarks.edge.targets import HERE, HOST, Target

_QUIET_SHARE: Final = 0.03
_QUIET_SECONDS: Final = 0.1
_DRAIN_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """The two programs at the ends of every measurement."""

    engine: subprocess.Popen[str]
    engine_port: int
    load: subprocess.Popen[str]

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Have the load generator do something, and return what it says."""
        if self.load.stdin is None or self.load.stdout is None:
            raise RuntimeError("the load generator was started without pipes")
        self.load.stdin.write(json.dumps(order) + "\n")
        self.load.stdin.flush()
        line = self.load.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Start the fake engine and the load generator."""
    with contextlib.ExitStack() as stack:
        children = []
        for module in ("benchmarks.edge.engine", "benchmarks.edge.load"):
            child = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=HERE,
            )
            stack.callback(_end, child)
            children.append(child)
        engine, load = children
        if engine.stdout is None:
            raise RuntimeError("the engine was started without a pipe")
        yield Bench(engine=engine, engine_port=int(engine.stdout.readline()), load=load)


def _end(child: subprocess.Popen[str]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def drained(target: Target) -> bool:
    """Wait until a target is quiet, at most some seconds; whether it became so."""
    processes = [one for part in target.parts.values() for one in part]
    until = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < until:
        before = sum(map(cpu_ns, processes))
        time.sleep(_QUIET_SECONDS)
        if sum(map(cpu_ns, processes)) - before < _QUIET_SHARE * _QUIET_SECONDS * 1e9:
            return True
    return False


def pss(target: Target) -> int:
    """Return the memory of all processes of a target in KiB."""
    return sum(pss_kib(one) for part in target.parts.values() for one in part)


def run_case(bench: Bench, target: Target, case: Case, seconds: float) -> dict[str, Any]:
    """Measure one case at one target once."""
    was_quiet = drained(target)
    before = pss(target)
    answer = bench.ask(
        {
            **case.order(seconds),
            "host": HOST,
            "port": target.port,
            "key": target.key,
            "watch": {**target.parts, "engine": [bench.engine.pid]},
        }
    )
    if case.kind == "hold":
        time.sleep(_SETTLE_SECONDS)
    after = pss(target)
    if case.kind == "hold":
        bench.ask({"do": "release"})
    return {
        **per_unit(answer, case, tuple(target.parts)),
        "pss_mib": round(after / 1024, 1),
        "pss_before_mib": round(before / 1024, 1),
        "in_flight": case.in_flight,
        "was_quiet": was_quiet,
    }


def per_unit(answer: dict[str, Any], case: Case, parts: Sequence[str]) -> dict[str, Any]:
    """Return processor time per answer or event, rates, and the times as they are."""
    unit = case.unit
    spent_ns = answer["cpu_ns"]
    everything = spent_ns.pop("machine")
    count = answer["events"] if unit == "event" else answer["finished"] or answer.get("open", 0)
    per = {
        name: round(spent / 1000 / count, 2) if count else None for name, spent in spent_ns.items()
    }
    total = sum(spent_ns[name] for name in parts)
    others = everything - sum(spent_ns.values())
    times = {name: value for name, value in answer.items() if name.endswith("_ms")}
    return {
        "unit": unit,
        "count": count,
        "per_second": round(count / answer["seconds"], 1),
        "cpu_us": round(total / 1000 / count, 2) if count else None,
        "cpu_us_of": per,
        "busy_percent": round(100 * total / 1e9 / answer["seconds"]),
        "other_work_percent": max(0, round(100 * others / 1e9 / answer["seconds"])),
        "failures": answer["failures"],
        "open": answer.get("open"),
        **times,
    }


def middle(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several runs of one case at one target; failures are added up."""
    first = runs[0]
    joined: dict[str, Any] = {"unit": first["unit"], "runs": len(runs)}
    for name, value in first.items():
        if name == "failures":
            kinds = sorted({kind for run in runs for kind in run["failures"]})
            joined[name] = {k: sum(run["failures"].get(k, 0) for run in runs) for k in kinds}
        elif name == "cpu_us_of":
            joined[name] = {part: _median([run[name].get(part) for run in runs]) for part in value}
        elif name == "was_quiet":
            joined[name] = all(run[name] for run in runs)
        elif name == "count":
            joined[name] = sum(run[name] for run in runs)
        elif not isinstance(value, str):
            joined[name] = _median([run[name] for run in runs])
    return joined


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 4) if known else None
