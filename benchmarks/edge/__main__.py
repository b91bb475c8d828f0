"""The edge beside other proxies, in one run: processor time, latency, memory, failures."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from benchmarks.edge.cases import CASES, CHEAP
from benchmarks.edge.measure import Bench, bench, middle, run_case
from benchmarks.edge.prepare import prepare
from benchmarks.edge.targets import TARGETS, Absent, Target, started
from benchmarks.edge.where import profile, show
from benchmarks.figures import table

Figures = dict[str, dict[str, dict[str, Any]]]
_SLOW = "litellm"


def measure(
    targets: list[str], cases: list[str], *, seconds: float, rounds: int
) -> tuple[Figures, dict[str, str]]:
    """Return figures by case and target, and what is absent with the reason.

    Targets take turns within a case, cases within a round: what disturbs the machine disturbs all.
    """
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(bench())
        there, absent = _start(stack, ends, targets)
        for turn in range(rounds):
            for case in cases:
                for target in there:
                    if target.name == _SLOW and case not in CHEAP:
                        continue
                    one = run_case(ends, target, CASES[case], seconds)
                    runs.setdefault((case, target.name), []).append(one)
                    _say(turn, case, target.name, one)
    figures: Figures = {}
    for (case, name), several in runs.items():
        figures.setdefault(case, {})[name] = middle(several)
    return figures, absent


def _start(
    stack: contextlib.ExitStack, ends: Bench, targets: list[str]
) -> tuple[list[Target], dict[str, str]]:
    there, absent = [], {}
    for name in targets:
        try:
            there.append(stack.enter_context(started(name, ends.engine_port)))
        except Absent as why:
            absent[name] = str(why)
    return there, absent


def _say(turn: int, case: str, target: str, one: dict[str, Any]) -> None:
    failures = ", ".join(f"{count} x {kind}" for kind, count in one["failures"].items())
    print(
        f"round {turn + 1}  {case:<10}  {target:<19}  {one['cpu_us']} us per {one['unit']},"
        f" {one['per_second']}/s{'; FAILED: ' + failures if failures else ''}",
        file=sys.stderr,
        flush=True,
    )


def where_time_goes(cases: list[str], *, seconds: float) -> list[dict[str, Any]]:
    """Return the profile of worker and notary under each case."""
    found = []
    with bench() as ends, started("ours", ends.engine_port, profile=True) as target:
        if target.samples is None:
            raise RuntimeError("the gateway was started without a place for its samples")
        for case in cases:
            found.append(profile(ends, target, target.samples, CASES[case], seconds))
    return found


def rows_of(figures: Figures) -> list[dict[str, Any]]:
    """Return the short table: one row for each case and target."""
    return [
        {
            "case": case,
            "target": name,
            "cpu_us": one["cpu_us"],
            "per": one["unit"],
            "worker": one["cpu_us_of"].get("worker", ""),
            "notary": one["cpu_us_of"].get("notary", ""),
            "engine": one["cpu_us_of"]["engine"],
            "load": one["cpu_us_of"]["load"],
            "per_second": one["per_second"],
            "p50_ms": one["latency_p50_ms"],
            "p99_ms": one["latency_p99_ms"],
            "failures": sum(one["failures"].values()),
            "x_nginx": _ratio(one, by_target.get("nginx")),
            "x_vllm": _ratio(one, by_target.get("vllm-router")),
        }
        for case, by_target in figures.items()
        for name, one in by_target.items()
    ]


def _ratio(one: dict[str, Any], other: dict[str, Any] | None) -> str:
    if other is None or not other["cpu_us"] or one["cpu_us"] is None:
        return ""
    return f"{one['cpu_us'] / other['cpu_us']:.2f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated")
    parser.add_argument("--cases", help="comma-separated (all; for --profile: plain-32)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of every single run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a table and nothing else")
    parser.add_argument("--profile", action="store_true", help="where our time goes, by function")
    parser.add_argument("--prepare", action="store_true", help="install the competitors first")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    arguments = _arguments()
    if arguments.prepare:
        prepare()
    if arguments.profile:
        cases = (arguments.cases or "plain-32").split(",")
        for found in where_time_goes(cases, seconds=arguments.seconds):
            show(found)
        return
    figures, absent = measure(
        arguments.targets.split(","),
        (arguments.cases or ",".join(CASES)).split(","),
        seconds=arguments.seconds,
        rounds=1 if arguments.quick else arguments.rounds,
    )
    print(table(rows_of(figures)))
    for name, why in absent.items():
        print(f"absent: {name}: {why}")


if __name__ == "__main__":
    main()
