"""The edge beside other proxies, in one run: processor time, latency, memory, failures."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from benchmarks.edge.cases import CASES, CHEAP
from benchmarks.edge.measure import bench, middle, run_case
from benchmarks.edge.targets import TARGETS, Absent, Target, started
from benchmarks.figures import table


def measure(
    targets: list[str], cases: list[str], *, seconds: float, rounds: int
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return figures by case and target, and what is absent with the reason."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(bench())
        there: list[Target] = []
        for name in targets:
            try:
                there.append(stack.enter_context(started(name, ends.engine_port)))
            except Absent as why:
                absent[name] = str(why)
        for turn in range(rounds):
            for case in cases:
                for target in there:
                    if target.name == "litellm" and case not in CHEAP:
                        continue
                    one = run_case(ends, target, CASES[case], seconds)
                    runs.setdefault((case, target.name), []).append(one)
                    _say(turn, case, target.name, one)
    figures: dict[str, dict[str, Any]] = {}
    for (case, name), several in runs.items():
        figures.setdefault(case, {})[name] = middle(several)
    return figures, absent


def _say(turn: int, case: str, target: str, one: dict[str, Any]) -> None:
    print(
        f"round {turn + 1}  {case:<10}  {target:<16}  {one['cpu_us']} us per {one['unit']},"
        f" {one['per_second']}/s, failures {sum(one['failures'].values())}",
        file=sys.stderr,
        flush=True,
    )


def rows_of(figures: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the short table: one row for each case and target."""
    rows = []
    for case, by_target in figures.items():
        for name, one in by_target.items():
            parts = one["cpu_us_of"]
            rows.append(
                {
                    "case": case,
                    "target": name,
                    f"cpu_us": one["cpu_us"],
                    "per": one["unit"],
                    "worker": parts.get("worker", ""),
                    "notary": parts.get("notary", ""),
                    "engine": parts["engine"],
                    "load": parts["load"],
                    "per_second": one["per_second"],
                    "p50_ms": one["latency_p50_ms"],
                    "p99_ms": one["latency_p99_ms"],
                    "failures": sum(one["failures"].values()),
                    "x_nginx": _ratio(one, by_target.get("nginx")),
                    "x_vllm": _ratio(one, by_target.get("vllm-router")),
                }
            )
    return rows


def _ratio(one: dict[str, Any], other: dict[str, Any] | None) -> str:
    if other is None or not other["cpu_us"] or one["cpu_us"] is None:
        return ""
    return f"{one['cpu_us'] / other['cpu_us']:.2f}"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of every single run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a table and nothing else")
    arguments = parser.parse_args()
    figures, absent = measure(
        arguments.targets.split(","),
        arguments.cases.split(","),
        seconds=arguments.seconds,
        rounds=1 if arguments.quick else arguments.rounds,
    )
    print(table(rows_of(figures)))
    for name, why in absent.items():
        print(f"absent: {name}: {why}")


if __name__ == "__main__":
    main()
