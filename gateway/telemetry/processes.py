"""Metrics of the supervisor, beside the notary's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class ProcessMetrics:
    """How many workers run and how many had to be replaced."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._workers = Gauge("attested_workers", "Worker processes", registry=registry)
        self._replaced = Counter(
            "attested_workers_replaced", "Workers that died and were replaced", registry=registry
        )
        self._seen = 0

    def workers(self, running: int, replaced: int) -> None:
        """Note the present counts; `replaced` never falls."""
        self._workers.set(running)
        self._replaced.inc(replaced - self._seen)
        self._seen = replaced

    def render(self) -> bytes:
        """Return them in Prometheus' text format."""
        return generate_latest(self._registry)
