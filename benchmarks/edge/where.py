"""Where the time of worker and notary goes under one case: functions, threads, microseconds."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.edge.cases import Case
from benchmarks.edge.measure import Bench, drained, run_case
from benchmarks.edge.targets import Target
from benchmarks.figures import table

_ROWS: Final = 35
_AREAS: Final = (
    ("strict parse", ("attestation.encoding.strict_json", "gateway.edge.admission")),
    ("signing", ("attestation.receipt.sign", "attestation.receipt.sealer")),
    ("hashing", ("attestation.receipt.delivery", "attestation.encoding.digest")),
    ("facts of answers", ("attestation.receipt.facts", "attestation.receipt.engine_json")),
    ("claims and exchange", ("attestation.receipt", "attestation.encoding", "attestation.lineage")),
    ("sockets between the processes", ("gateway.notary.wire",)),
    ("log and commit", ("gateway.notary.log", "attestation.merkle", "attestation.log")),
    ("sequence and ledger", ("gateway.notary",)),
    ("keys, grants, quotas", ("gateway.access",)),
    ("metrics and events", ("gateway.telemetry", "prometheus_client")),
    ("engine side", ("gateway.upstream",)),
    ("caller side", ("gateway.edge", "gateway.app", "gateway.api", "gateway.serving")),
)
_PARTS: Final = ("worker", "notary")


def profile(
    bench: Bench, target: Target, folder: Path, case: Case, seconds: float
) -> dict[str, Any]:
    """Run a case at a target that was started under the sampler; return its profile.

    Functions' shares are given in microseconds of processor time for each answer or event.
    """
    run_case(bench, target, case, 0.5)
    drained(target)
    processes = {part: target.parts[part][0] for part in _PARTS}
    before = {part: threads(process) for part, process in processes.items()}
    for part, process in processes.items():
        (folder / f"{part}.json").unlink(missing_ok=True)
        os.kill(process, signal.SIGUSR1)
    run = run_case(bench, target, case, seconds)
    found: dict[str, Any] = {"case": case.name, "unit": run["unit"], "cpu_us_of": run["cpu_us_of"]}
    for part, process in processes.items():
        os.kill(process, signal.SIGUSR2)
        samples = _samples(folder / f"{part}.json")
        spent = {name: used - before[part].get(name, 0) for name, used in threads(process).items()}
        found[part] = _shares(samples, spent, run["cpu_us_of"][part])
    return found


def threads(process: int) -> dict[str, int]:
    """Return the processor time of each thread of a process in nanoseconds, by name and id."""
    found = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        used = int((task / "schedstat").read_text(encoding="ascii").split()[0])
        name = (task / "comm").read_text(encoding="utf-8").strip()
        found["main" if task.name == str(process) else f"{name}-{task.name}"] = used
    return found


def _samples(file: Path) -> dict[str, Any]:
    until = time.monotonic() + 20
    while not file.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"no samples were written to {file.name}")
        time.sleep(0.02)
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def areas(modules: dict[str, int]) -> dict[str, int]:
    """Return samples by what the code is there for; the first area that fits takes a module."""
    found: Counter[str] = Counter()
    for module, count in modules.items():
        fitting = (area for area, prefixes in _AREAS if module.startswith(prefixes))
        found[next(fitting, "event loop and HTTP library")] += count
    return dict(found.most_common())


def _shares(samples: dict[str, Any], spent: dict[str, int], us: float) -> dict[str, Any]:
    total, cpu = max(1, samples["samples"]), max(1, sum(spent.values()))

    def cost(counts: dict[str, int]) -> dict[str, float]:
        return {name: round(us * count / total, 2) for name, count in counts.items()}

    others = sorted((used for name, used in spent.items() if name != "main"), reverse=True)
    return {
        "samples": samples["samples"],
        "threads_us": {
            "main": round(us * spent.get("main", 0) / cpu, 2),
            "others": [round(us * used / cpu, 2) for used in others if used * 200 > cpu],
        },
        "areas_us": cost(areas(samples["modules"])),
        "innermost_us": cost(samples["innermost"]),
        # What everything happens in says nothing.
        "anywhere_us": cost({n: c for n, c in samples["anywhere"].items() if c < 0.97 * total}),
    }


def show(found: dict[str, Any], say: Callable[[str], None] = print) -> None:
    """Print a profile."""
    for part in _PARTS:
        one = found[part]
        say(
            f"\n{part}: {found['cpu_us_of'][part]} us per {found['unit']} in {found['case']}; "
            f"main thread {one['threads_us']['main']}, others {one['threads_us']['others']}"
        )
        say(table([{"us": us, "area": area} for area, us in one["areas_us"].items()] or [{}]))
        say("")
        inner = list(one["innermost_us"].items())[:_ROWS]
        around = list(one["anywhere_us"].items())[: len(inner)]
        rows = [
            {"us itself": us, "in function": name, "us with callees": more, "function": outer}
            for (name, us), (outer, more) in zip(inner, around, strict=True)
        ]
        if rows:
            say(table(rows))
