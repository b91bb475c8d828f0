"""Metrics of the supervisor, beside the notary's and the workers'."""

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
        self._silent = Gauge(
            "attested_workers_silent",
            "Workers that did not say in time what they counted, and are shown as they were",
            registry=registry,
        )
        self._notary = Gauge(
            "attested_notary_answers",
            "1 if the notary said in time what it counted; else its metrics are missing",
            registry=registry,
        )
        self._seen = 0

    def workers(self, running: int, replaced: int, silent: int) -> None:
        """Note the present counts; `replaced` never falls."""
        self._workers.set(running)
        self._silent.set(silent)
        self._replaced.inc(replaced - self._seen)
        self._seen = replaced

    def notary_answers(self, state: int) -> None:
        """Note whether the notary's own metrics are there: 1 or 0."""
        self._notary.set(state)

    def render(self) -> bytes:
        """Return them in Prometheus' text format."""
        return generate_latest(self._registry)
