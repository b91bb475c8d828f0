"""What is kept of a run: JSON, and tables and a plot in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.edge.cases import CASES
from benchmarks.edge.compare import OURS, Figures
from benchmarks.edge.plot import Panel, draw

ROOT: Final = Path(__file__).parents[2]
RESULT: Final = ROOT / "benchmarks" / "results" / "edge.json"
PAGE: Final = ROOT / "docs" / "performance.md"
PLOT: Final = ROOT / "docs" / "performance.svg"
_BEGIN: Final = "<!-- bench-edge: begin; written by `make bench-edge` -->"
_END: Final = "<!-- bench-edge: end -->"
_PANELS: Final = (
    ("plain-32", "cpu_us", "CPU of a plain request, 1 KiB / 1 KiB, 32 in flight", "us"),
    ("paced-200", "cpu_us", "CPU of a streamed event, 200 streams, an event every 10 ms", "us"),
    ("burst-100", "first_p99_ms", "100 new streams at once: first event, p99", "ms"),
)


def write_all(document: dict[str, Any]) -> None:
    """Keep the document, and put its tables and its plot into the page."""
    RESULT.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PLOT.write_text(plot_of(document["cases"]), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(put_between(page, markdown(document)), encoding="utf-8")


def put_between(page: str, text: str) -> str:
    """Return a page with `text` in the place that its two marks enclose."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the page lacks the marks between which the benchmark writes")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def plot_of(figures: Figures) -> str:
    """Return the plot of the three figures that say most."""
    panels = []
    for case, what, title, unit in _PANELS:
        bars = tuple(
            (name, float(one[what])) for name, one in figures.get(case, {}).items() if one[what]
        )
        if bars:
            marked = frozenset(name for name, _ in bars if name.startswith(OURS))
            panels.append(Panel(title=title, unit=unit, bars=bars, marked=marked))
    return draw(panels)


def markdown(document: dict[str, Any]) -> str:
    """Return the tables of a run."""
    machine = document["machine"]
    sections = [
        f"{machine['cpu']}, {machine['cpus']} processors, {machine['memory_gib']} GiB, kernel"
        f" {machine['kernel']}, Python {machine['python']}; load before the run"
        f" {machine['load_before']}. {document['rounds']} rounds of"
        f" {document['seconds_a_run']:g} s; medians."
        f" Versions: {', '.join(f'{n} {v}' for n, v in sorted(document['versions'].items()))}."
        + "".join(f"\nAbsent: {name} ({why})." for name, why in document["absent"].items()),
        "### Goals\n\n"
        + _table(
            ("goal", "bound", "seen", ""),
            [(g["goal"], g["bound"], _shown(g["seen"]), g["verdict"]) for g in document["goals"]],
        ),
        "### Processor time\n\n" + _cpu_table(document["cases"]),
        "### Latency and events\n\n" + _time_table(document["cases"]),
        "### Memory of open streams\n\n" + _memory_table(document["cases"]),
        "### What receipts add\n\n" + _adds(document["receipts_add"]) + "\n\n" + _parts(document),
        "![CPU and first event of each proxy](performance.svg)",
    ]
    return "\n\n".join(sections) + "\n"


def _cpu_table(figures: Figures) -> str:
    rows = []
    for case, by_target in figures.items():
        for name, one in by_target.items():
            parts = one["cpu_us_of"]
            split = [f"{part} {parts[part]:g}" for part in ("worker", "notary") if parts.get(part)]
            rows.append(
                (
                    case,
                    name,
                    "-" if name == "direct" else f"{_shown(one['cpu_us'])} / {one['unit']}",
                    ", ".join(split),
                    _shown(one["cpu_x_nginx"] or None),
                    _shown(one["cpu_x_vllm-router"] or None),
                    _shown(one["per_second"]),
                    f"{_shown(parts['engine'])} + {_shown(parts['load'])}",
                    _shown(one.get("other_work_percent")),
                    str(sum(one["failures"].values())),
                )
            )
    heads = (
        "case", "target", "CPU us", "of that", "x nginx", "x vllm-router", "a second",
        "engine + load us", "other work %", "failures",
    )  # fmt: skip
    return _table(heads, rows)


def _time_table(figures: Figures) -> str:
    rows = []
    for case, by_target in figures.items():
        for name, one in by_target.items():
            over = one.get("over_direct", {})
            rows.append(
                (
                    case,
                    name,
                    f"{_shown(one['latency_p50_ms'])} / {_shown(one['latency_p99_ms'])}",
                    f"{_shown(over.get('latency_p50_ms'))} / {_shown(over.get('latency_p99_ms'))}",
                    f"{_shown(one['first_p50_ms'])} / {_shown(one['first_p99_ms'])}",
                    f"{_shown(over.get('delay_p50_ms'))} / {_shown(over.get('delay_p99_ms'))}",
                    _shown(one.get("delivered_percent")),
                )
            )
    heads = (
        "case", "target", "answer p50 / p99 ms", "over direct", "first event p50 / p99 ms",
        "event delay over direct p50 / p99 ms", "delivered %",
    )  # fmt: skip
    return _table(heads, rows)


def _memory_table(figures: Figures) -> str:
    rows = [
        (
            name,
            _shown(one["open"]),
            _shown(one["pss_before_mib"]),
            _shown(one["pss_mib"]),
            _shown(one["kib_per_stream"]),
            _shown(one["mib_of_10000"]),
        )
        for case, by_target in figures.items()
        if CASES[case].kind == "hold"
        for name, one in by_target.items()
        if name != "direct"
    ]
    heads = ("target", "open", "MiB before", "MiB with them", "KiB a stream", "MiB of 10,000")
    return _table(heads, rows)


def _adds(added: dict[str, float | None]) -> str:
    return _table(("what", "us, worker and notary"), [(k, _shown(v)) for k, v in added.items()])


def _parts(document: dict[str, Any]) -> str:
    rows = [(one["process"], one["step"], _shown(one["us"])) for one in document["parts"]]
    alone = _table(("process", "step alone, in a loop", "us"), rows)
    profiled = [
        (part, area, _shown(us))
        for found in document["where_time_goes"]
        for part in ("worker", "notary")
        for area, us in found[part]["areas_us"].items()
    ]
    whole = _table(("process", "in a run of plain-32 (sampled)", "us of a request"), profiled)
    return f"{alone}\n\n{whole}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".")
