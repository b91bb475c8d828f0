"""The edge beside other proxies, in one run: processor time, latency, memory, failures.

Everything by default: minutes, and the results are written into the repository.  `--quick` is one
short round and a table; `--profile` says in which functions worker and notary spend their time.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.edge.cases import CASES, LEFT_OUT, fitting
from benchmarks.edge.compare import Figures, judge, receipts_add, relate
from benchmarks.edge.measure import Bench, bench, middle, run_case
from benchmarks.edge.prepare import prepare, versions
from benchmarks.edge.report import RESULT, write_all
from benchmarks.edge.targets import TARGETS, Absent, Target, started
from benchmarks.edge.where import profile, show
from benchmarks.figures import table
from benchmarks.machine import describe_machine

_PROFILED: Final = "plain-32"


def measure(
    targets: list[str], cases: list[str], *, seconds: float, rounds: int
) -> tuple[Figures, dict[str, str]]:
    """Return figures by case and target, and what is absent with the reason.

    Targets take turns within a case, cases within a round: what disturbs the machine disturbs all.
    """
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(bench())
        there, absent = _start(stack, ends, targets)
        for turn in range(rounds):
            for case in (fitting(CASES[name], descriptors) for name in cases):
                if case.once and turn + 1 < rounds:
                    continue
                for target in there:
                    if case.name in LEFT_OUT.get(target.name, ()):
                        continue
                    one = run_case(ends, target, case, seconds)
                    runs.setdefault((case.name, target.name), []).append(one)
                    _say(turn, case.name, target.name, one)
    figures: Figures = {}
    for (name, target_name), several in runs.items():
        figures.setdefault(name, {})[target_name] = middle(several)
    relate(figures)
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
    with bench() as ends, started("ours", ends.engine_port, profile=True) as target:
        if target.samples is None:
            raise RuntimeError("the gateway was started without a place for its samples")
        return [profile(ends, target, target.samples, CASES[case], seconds) for case in cases]


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
            "first_p99": one["first_p99_ms"],
            "MiB": one["pss_mib"],
            "failures": sum(one["failures"].values()),
            "x_nginx": one["cpu_x_nginx"],
            "x_vllm": one["cpu_x_vllm-router"],
        }
        for case, by_target in figures.items()
        for name, one in by_target.items()
    ]


def document_of(
    figures: Figures, absent: dict[str, str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return everything that is kept of a run."""
    # The rest of the program measures processes from outside; this reaches into the product.
    from benchmarks.edge.parts import measure_parts  # noqa: PLC0415

    return {
        "benchmark": "the edge beside other proxies, in one run",
        "machine": describe_machine(Path.cwd()),
        "seconds_a_run": arguments.seconds,
        "rounds": arguments.rounds,
        "absent": absent,
        "versions": versions(),
        "left_out": LEFT_OUT,
        "goals": judge(figures),
        "receipts_add": receipts_add(figures),
        "about": {name: CASES[name].about for name in figures},
        "cases": figures,
        "parts": measure_parts(),
        "where_time_goes": where_time_goes([_PROFILED], seconds=2 * arguments.seconds),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated")
    parser.add_argument("--cases", help=f"comma-separated (all; for --profile: {_PROFILED})")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of every single run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, a table and nothing else")
    parser.add_argument("--profile", action="store_true", help="where our time goes, by function")
    parser.add_argument("--prepare", action="store_true", help="install the competitors first")
    arguments = parser.parse_args()
    known: dict[str, list[str]] = {"targets": list(TARGETS), "cases": list(CASES)}
    for name, those in known.items():
        for one in (getattr(arguments, name) or "").split(","):
            if one and one not in those:
                parser.error(f"no such thing in --{name}: {one} (there are {', '.join(those)})")
    return arguments


def main() -> None:
    """Run it."""
    arguments = _arguments()
    # Whoever ends this program ends what it started as well.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if arguments.prepare:
        prepare()
    if arguments.profile:
        cases = (arguments.cases or _PROFILED).split(",")
        for found in where_time_goes(cases, seconds=arguments.seconds):
            show(found)
        return
    machine = describe_machine(Path.cwd())
    figures, absent = measure(
        arguments.targets.split(","),
        (arguments.cases or ",".join(CASES)).split(","),
        seconds=arguments.seconds,
        rounds=1 if arguments.quick else arguments.rounds,
    )
    print(table(rows_of(figures)))
    goals = [one for one in judge(figures) if one["verdict"] != "not measured"]
    if goals:
        print("\n" + table(goals))
    for name, why in absent.items():
        print(f"absent: {name}: {why}")
    if not arguments.quick:
        write_all({**document_of(figures, absent, arguments), "machine": machine})
        print(f"\nwritten: {RESULT.name}, docs/performance.md, docs/performance.svg")


if __name__ == "__main__":
    main()
