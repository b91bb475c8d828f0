#!/usr/bin/env python3
"""Write dashboards/: a Grafana dashboard and Prometheus alert rules, from what is declared here.

    tools/make_dashboard.py            write both files
    tools/make_dashboard.py --check    exit 1 if a file is not what would be written

Panels and rules name metrics of the admin listener; a name that the gateway does not have is an
error here, so a metric cannot be renamed without them.  Both formats are public: Grafana's
dashboard JSON model (schema 39) and Prometheus' rule files.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gateway.telemetry.families import FAMILIES  # noqa: E402 - after the path is set
from gateway.telemetry.metrics import Metrics  # noqa: E402
from gateway.telemetry.processes import ProcessMetrics  # noqa: E402

DASHBOARD: Final = Path("dashboards/attested-gateway.json")
ALERTS: Final = Path("dashboards/attested-gateway.rules.yml")
_NAME: Final = re.compile(r"attested_[a-z0-9_]+")
_TYPE: Final = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_WIDTH: Final = 24
_SELECTED: Final = '{instance=~"$instance"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph: its lines are pairs of a legend and an expression ($I stands for the instance)."""

    title: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A rule: `summary` says what it means and what to look at."""

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str


def _rate(name: str, by: str) -> str:
    return f"sum by ({by}) (rate({name}$I[$__rate_interval]))"


def _quantile(share: float, name: str, by: str = "") -> str:
    grouped = ", ".join(filter(None, ("le", by)))
    return (
        f"histogram_quantile({share}, sum by ({grouped}) (rate({name}_bucket$I[$__rate_interval])))"
    )


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Requests",
        (
            Panel(
                title="Requests by end",
                unit="reqps",
                lines=(
                    ("{{end}} {{status}}", _rate("attested_requests_ended_total", "end, status")),
                ),
                text="Every request ends in one receipt; complete is the only end that is meant.",
            ),
            Panel(
                title="Running, connected",
                lines=(
                    ("running", "sum(attested_requests_running$I)"),
                    ("connections", "sum(attested_connections_open$I)"),
                ),
            ),
            Panel(
                title="First byte",
                unit="s",
                lines=(
                    ("p50", _quantile(0.5, "attested_request_first_byte_seconds")),
                    ("p99", _quantile(0.99, "attested_request_first_byte_seconds")),
                ),
            ),
            Panel(
                title="Whole answer, p99 by route",
                unit="s",
                lines=(("{{route}}", _quantile(0.99, "attested_request_seconds", "route")),),
            ),
            Panel(
                title="Turned away",
                unit="reqps",
                lines=(
                    ("load: {{reason}}", _rate("attested_requests_shed_total", "reason")),
                    ("quota: {{kind}}", _rate("attested_quota_refused_total", "kind")),
                    (
                        "unknown key",
                        "sum(rate(attested_unauthenticated_total$I[$__rate_interval]))",
                    ),
                ),
            ),
            Panel(
                title="Connections closed by the gateway",
                unit="cps",
                lines=(
                    ("{{reason}}", _rate("attested_connections_refused_total", "reason")),
                    ("took nothing", "sum(rate(attested_slow_clients_total$I[$__rate_interval]))"),
                ),
            ),
        ),
    ),
    (
        "Engines",
        (
            Panel(
                title="Tries by engine and outcome",
                unit="reqps",
                lines=(
                    (
                        "{{engine}} {{outcome}}",
                        _rate("attested_engine_attempts_total", "engine, outcome"),
                    ),
                ),
            ),
            Panel(
                title="Head of the engine's answer, p99",
                unit="s",
                lines=(("{{engine}}", _quantile(0.99, "attested_engine_head_seconds", "engine")),),
            ),
            Panel(
                title="Workers that see an engine down",
                lines=(
                    (
                        "{{engine}} {{state}}",
                        (
                            'sum by (engine, state) (attested_engine_state{state!="up",'
                            ' instance=~"$instance"})'
                        ),
                    ),
                ),
            ),
            Panel(
                title="Bodies rewritten",
                unit="reqps",
                lines=(("{{code}}", _rate("attested_bodies_rewritten_total", "code")),),
            ),
        ),
    ),
    (
        "Receipts and log",
        (
            Panel(
                title="From outcome to durable receipt",
                unit="s",
                lines=(
                    ("p50", _quantile(0.5, "attested_seal_seconds")),
                    ("p99", _quantile(0.99, "attested_seal_seconds")),
                    ("oldest wait", "max(attested_seal_waiting_seconds$I)"),
                ),
            ),
            Panel(
                title="Durability of a batch, p99",
                unit="s",
                lines=(("commit", _quantile(0.99, "attested_commit_seconds")),),
            ),
            Panel(
                title="Receipts waiting for an epoch",
                unit="s",
                lines=(("age", "max(attested_epoch_age_seconds$I)"),),
            ),
            Panel(
                title="Quotes of the log",
                unit="cps",
                lines=(("{{result}}", _rate("attested_epochs_total", "result")),),
            ),
            Panel(
                title="Free space of the log",
                unit="bytes",
                lines=(("{{instance}}", "attested_disk_free_bytes$I"),),
            ),
            Panel(
                title="Conditions of /readyz",
                lines=(
                    ("{{code}}", "max by (code) (attested_condition$I)"),
                    ("notary healthy", "min(attested_notary_healthy$I)"),
                ),
            ),
            Panel(
                title="Endorsements end in",
                unit="s",
                lines=(("{{instance}}", "attested_endorsements_seconds_left$I"),),
            ),
            Panel(
                title="Announced and not sealed",
                lines=(("{{instance}}", "attested_in_flight$I"),),
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                title="Processor time",
                unit="percentunit",
                lines=(("{{role}}", _rate("attested_process_cpu_seconds_total", "role")),),
            ),
            Panel(
                title="Memory",
                unit="bytes",
                lines=(("{{role}}", "sum by (role) (attested_process_resident_bytes$I)"),),
            ),
            Panel(
                title="Descriptors",
                lines=(("{{role}}", "sum by (role) (attested_process_open_descriptors$I)"),),
            ),
            Panel(
                title="Workers",
                lines=(
                    ("running", "sum(attested_workers$I)"),
                    ("silent", "sum(attested_workers_silent$I)"),
                    ("replaced in 1 h", "sum(increase(attested_workers_replaced_total$I[1h]))"),
                ),
            ),
        ),
    ),
)

RULES: Final[tuple[Alert, ...]] = (
    Alert(
        name="AttestedNotaryUnhealthy",
        expression="attested_notary_healthy == 0",
        lasting="0m",
        severity="page",
        summary="The boot has ended: every request gets 503. The event boot.ended says why.",
    ),
    Alert(
        name="AttestedNotarySilent",
        expression="attested_notary_answers == 0 or attested_seal_waiting_seconds > 5",
        lasting="1m",
        severity="page",
        summary="The notary does not answer in time: requests get 503. Look at its disk and load.",
    ),
    Alert(
        name="AttestedAnswersDiscarded",
        expression="increase(attested_answers_unsealed_total[10m]) > 0",
        lasting="0m",
        severity="page",
        summary="Answers of the engine were thrown away because no receipt came in time.",
    ),
    Alert(
        name="AttestedEpochLate",
        expression='attested_condition{code="epoch_late"} == 1',
        lasting="5m",
        severity="ticket",
        summary="Receipts are issued but no quote covers them. Look at the quote provider.",
    ),
    Alert(
        name="AttestedDiskLow",
        expression='attested_condition{code=~"disk_.*"} == 1',
        lasting="1m",
        severity="page",
        summary="The log's disk is low or takes no writes. When it is full the boot ends.",
    ),
    Alert(
        name="AttestedBudgetsUnkept",
        expression="attested_budgets_unkept == 1",
        lasting="1m",
        severity="ticket",
        summary="Token budgets are counted in memory only: the data folder takes no writes.",
    ),
    Alert(
        name="AttestedClockJumped",
        expression='attested_condition{code="clock_jumped"} == 1',
        lasting="0m",
        severity="ticket",
        summary="The guest's clock was set. Receipts carry its times; look at the time service.",
    ),
    Alert(
        name="AttestedEndorsementsEnd",
        expression="attested_endorsements_seconds_left < 7 * 86400",
        lasting="1h",
        severity="ticket",
        summary="Endorsements in bundles end within a week: attested endorsements fetch.",
    ),
    Alert(
        name="AttestedEngineOpen",
        expression='sum by (instance, engine) (attested_engine_state{state="open"}) > 0',
        lasting="1m",
        severity="page",
        summary="Requests are kept from an engine because it failed. Look at the engine.",
    ),
    Alert(
        name="AttestedShedding",
        expression="sum by (instance) (rate(attested_requests_shed_total[5m])) > 1",
        lasting="10m",
        severity="ticket",
        summary="More than one request a second is turned away for load.",
    ),
    Alert(
        name="AttestedWorkersDie",
        expression="increase(attested_workers_replaced_total[15m]) > 2",
        lasting="0m",
        severity="page",
        summary="Workers die again and again. The event worker.died has their codes.",
    ),
)


def known_metrics() -> frozenset[str]:
    """Return every sample name that the admin listener can show."""
    kinds = {name: family.kind for name, family in FAMILIES.items()}
    text = (Metrics().render() + ProcessMetrics().render()).decode("ascii")
    kinds |= {name.removesuffix("_total"): kind for name, kind in _TYPE.findall(text)}
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return frozenset(
        name + ending for name, kind in kinds.items() for ending in endings.get(kind, ("",))
    )


def named_metrics(text: str) -> frozenset[str]:
    """Return the names of our metrics in an expression."""
    return frozenset(_NAME.findall(text))


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana reads it; its data source is chosen when it is opened."""
    return {
        "annotations": {"list": []},
        "editable": True,
        "panels": _panels(),
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["attested-gateway"],
        "templating": {"list": _variables()},
        "time": {"from": "now-6h", "to": "now"},
        "title": "attested-gateway",
        "uid": "attested-gateway",
    }


def alerts() -> str:
    """Return the rule file; a string of JSON is one of YAML as well."""
    lines = [
        "# Written by tools/make_dashboard.py; change it there.",
        "groups:",
        "  - name: attested-gateway",
        "    rules:",
    ]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expression)}",
            f"        for: {rule.lasting}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Return what is written where; raises `ValueError` for a metric that does not exist."""
    found = {DASHBOARD: json.dumps(dashboard(), indent=2) + "\n", ALERTS: alerts()}
    unknown = named_metrics("".join(found.values())) - known_metrics()
    if unknown:
        raise ValueError(f"no such metric: {', '.join(sorted(unknown))}")
    return found


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        panels.append(_row(len(panels), title, top))
        top += 1
        for at, panel in enumerate(row):
            place = {"h": 8, "w": _WIDTH // 2, "x": (at % 2) * _WIDTH // 2, "y": top + at // 2 * 8}
            panels.append(_graph(len(panels), panel, place))
        top += (len(row) + 1) // 2 * 8
    return panels


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
    return {"collapsed": False, "gridPos": place, "id": number, "panels": [], "title": title,
            "type": "row"}  # fmt: skip


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {
            "datasource": source,
            "expr": expression.replace("$I", _SELECTED),
            "legendFormat": legend,
            "refId": chr(ord("A") + at),
        }
        for at, (legend, expression) in enumerate(panel.lines)
    ]
    return {
        "datasource": source,
        "description": panel.text,
        "fieldConfig": {"defaults": {"min": 0, "unit": panel.unit}, "overrides": []},
        "gridPos": place,
        "id": number,
        "targets": targets,
        "title": panel.title,
        "type": "timeseries",
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"label": "data source", "name": "source", "query": "prometheus", "type": "datasource"},
        {
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "includeAll": True,
            "label": "instance",
            "multi": True,
            "name": "instance",
            "query": "label_values(attested_notary_healthy, instance)",
            "refresh": 2,
            "type": "query",
        },
    ]


def main(arguments: list[str]) -> int:
    """Write or check the files; returns the exit code."""
    stale = [
        path
        for path, text in files().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text("utf-8") != text
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path} is not what tools/make_dashboard.py writes: run it", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(files()[path], "utf-8")
        print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
