"""The metrics of processes that serve callers: declared once, added up, rendered.

    worker ── snapshot (JSON) ──► supervisor: parse ─► add up ─► Prometheus text

A snapshot comes from another process, so its every name, label and number is looked at before it
is shown.  Counts of a worker that is gone stay in the sums: a counter never goes back.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from attestation.errors import MalformedError
from gateway.telemetry.edge import FIRST_SECONDS, SEAL_SECONDS, WHOLE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.telemetry.edge import Snapshot

_LABEL: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}", re.ASCII)
_MAX_SERIES: Final = 4096

Labels = tuple[str, ...]
Value = tuple[float, ...]
"""One number, or of a histogram the count in each bucket and then the sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric: `bounds` are a histogram's, in the unit of its name.

    Of several processes' gauges the sum is shown, of their peaks (gauges too) the highest.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "peak"]
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers a series of it has."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, kind="counter", text=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, kind="gauge", text=text, labels=labels)


def _peak(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, kind="peak", text=text, labels=labels)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family(name=name, kind="histogram", text=text, labels=labels, bounds=bounds)


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        _counter("attested_requests_begun", "Requests with a key, before their bodies", "route"),
        _counter(
            "attested_requests_ended", "Requests, by their end and what was answered",
            "route", "end", "status",
        ),
        _gauge("attested_requests_running", "Requests that began and have not ended", "route"),
        _histogram(
            "attested_request_first_byte_seconds",
            "From a request's head to its answer's first byte, of a stream to its first event",
            FIRST_SECONDS, "route",
        ),
        _histogram(
            "attested_request_seconds", "From a request's head to the end of its answer",
            WHOLE_SECONDS, "route",
        ),
        _counter("attested_requests_shed", "Requests turned away for load", "reason"),
        _counter("attested_quota_refused", "Requests over a quota of their key", "kind"),
        _counter("attested_bodies_rewritten", "Changes made to forwarded bodies", "code"),
        _gauge("attested_connections_open", "Callers' connections"),
        _counter("attested_connections_accepted", "Callers' connections accepted"),
        _counter("attested_connections_refused", "Connections closed by the gateway", "reason"),
        _counter("attested_slow_clients", "Callers left because they took nothing"),
        _counter("attested_engine_attempts", "Tries at engines", "engine", "outcome"),
        _histogram(
            "attested_engine_head_seconds", "From a try's start to its answer's head, or failure",
            FIRST_SECONDS, "engine",
        ),
        _gauge("attested_engine_state", "Processes that see the engine so", "engine", "state"),
        _histogram(
            "attested_seal_seconds", "From an outcome to its durable receipt", SEAL_SECONDS
        ),
        _counter("attested_answers_unsealed", "Answers discarded without a receipt"),
        _peak("attested_seal_waiting_seconds", "Age of the oldest wait for the notary"),
        _peak("attested_budgets_unkept", "1 while token budgets cannot be written to disk"),
        _counter("attested_process_cpu_seconds", "Processor time", "role"),
        _gauge("attested_process_resident_bytes", "Resident memory", "role"),
        _gauge("attested_process_open_descriptors", "Open file descriptors", "role"),
    )
}  # fmt: skip


class Sums:
    """Snapshots added up, series by series."""

    def __init__(self) -> None:
        self._series: dict[str, dict[Labels, Value]] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Add a parsed snapshot."""
        for family, labels, value in _series_of(snapshot):
            self._add(family, labels, value)

    def add_past(self, snapshot: Snapshot) -> None:
        """Add what stays of a process that is gone: its counters and histograms."""
        for family, labels, value in _series_of(snapshot):
            if family.kind in ("counter", "histogram"):
                self._add(family, labels, value)

    def render(self) -> bytes:
        """Return every family that has a series in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Return the families, for a registry of prometheus_client."""
        for name, family in FAMILIES.items():
            if name in self._series:
                yield _metric(family, self._series[name])

    def _add(self, family: Family, labels: Labels, value: Value) -> None:
        series = self._series.setdefault(family.name, {})
        known = series.get(labels)
        if known is None:
            series[labels] = value
        elif family.kind == "peak":
            series[labels] = max(known, value)
        else:
            series[labels] = tuple(a + b for a, b in zip(known, value, strict=True))

    def copy(self) -> Sums:
        """Return sums that can be added to on their own."""
        other = Sums()
        other._series = {name: dict(series) for name, series in self._series.items()}
        return other


def parse_snapshot(value: object) -> Snapshot:
    """Return what another process says of itself, or raise `MalformedError`.

    Only declared families, labels of a closed alphabet and as many as declared, finite numbers
    that are not negative.
    """
    if not isinstance(value, dict) or not value.keys() <= FAMILIES.keys():
        raise _malformed("declared families")
    for name, rows in value.items():
        if not isinstance(rows, list) or len(rows) > _MAX_SERIES:
            raise _malformed("a list of series")
        for row in rows:
            _require_row(FAMILIES[name], row)
    return value


def _require_row(family: Family, row: object) -> None:
    if not isinstance(row, list) or not row or not isinstance(row[0], list):
        raise _malformed("labels and a value")
    labels, numbers = row[0], _numbers(row)
    if len(labels) != len(family.labels) or not all(
        isinstance(label, str) and _LABEL.fullmatch(label) for label in labels
    ):
        raise _malformed("the labels of the family")
    if len(numbers) != family.width or not all(_is_count(number) for number in numbers):
        raise _malformed("numbers from 0 on, as many as the family has")


def _numbers(row: list[Any]) -> list[Any]:
    if len(row) > 1 and isinstance(row[1], list):
        return [*row[1], *row[2:]]
    return row[1:]


def _is_count(number: object) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return math.isfinite(number) and number >= 0


def _malformed(expected: str) -> MalformedError:
    return MalformedError(
        "the counts of a process have another form", code="counts", expected=expected
    )


def _series_of(snapshot: Snapshot) -> Iterable[tuple[Family, Labels, Value]]:
    for name, rows in snapshot.items():
        for row in rows:
            yield FAMILIES[name], tuple(row[0]), tuple(_numbers(row))


def _metric(family: Family, series: dict[Labels, Value]) -> Metric:
    if family.kind == "histogram":
        return _histogram_metric(family, series)
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.text, labels=family.labels)
    for labels, value in series.items():
        metric.add_metric(labels, value[0])
    return metric


def _histogram_metric(family: Family, series: dict[Labels, Value]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    edges = [*map(str, family.bounds), "+Inf"]
    for labels, value in series.items():
        *counts, total = value
        metric.add_metric(labels, list(zip(edges, accumulate(counts), strict=True)), total)
    return metric
