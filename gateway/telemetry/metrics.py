"""Prometheus metrics of one gateway, in a registry of their own.

Every label takes its values from a closed set fixed here; whatever else is handed in becomes
"other".  So no text of a caller or an engine can become a label, and the number of series is
bounded.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from attestation.receipt.claims import End
from gateway.edge.routes import PATHS
from gateway.notary.conditions import CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"
ROUTES: Final = PATHS
ENDS: Final = frozenset(str(end) for end in End)
CHALLENGE_RESULTS: Final = frozenset(
    {"ok", "challenges_busy", "quote_timeout", "quote_busy", "quote_pause", "quote_failed"}
)
EPOCH_RESULTS: Final = frozenset(
    {"anchored", "quote_timeout", "quote_busy", "quote_pause", "quote_failed", "internal"}
)
BOOT_STATUSES: Final = frozenset({"whole", "torn", "damaged", "shortened", "foreign", "unborn"})
_QUOTE_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LEAVES: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144)
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The gateway's counters; every method takes plain numbers or names from a closed set."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        # Counted here until they are shown: four locked counters for each request took 5
        # microseconds of it.
        self._numbered: defaultdict[str, int] = defaultdict(int)
        self._receipted: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._admitted = Counter(
            "attested_admitted", "Requests the notary numbered", ["route"], registry=registry
        )
        self._sealed = Counter(
            "attested_receipts", "Receipts, by how the request ended", ["route", "end"],
            registry=registry,
        )  # fmt: skip
        self._unauthenticated = Counter(
            "attested_unauthenticated", "Requests that no key owned", registry=registry
        )
        self._unreceipted = Counter(
            "attested_refused_unreceipted", "Refusals above a key's rate", registry=registry
        )
        self._in_flight = Gauge(
            "attested_in_flight", "Requests announced and not sealed", registry=registry
        )
        self._log_size = Gauge("attested_log_size", "Durable leaves", registry=registry)
        self._batch = Histogram(
            "attested_commit_batch", "Records made durable by one sync", buckets=_SIZES,
            registry=registry,
        )  # fmt: skip
        self._commit = Histogram(
            "attested_commit_seconds", "From submission of a batch to durability",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._challenges = Counter(
            "attested_challenges", "Challenges, by what came of them", ["result"], registry=registry
        )
        self._epochs = Counter(
            "attested_epochs", "Quotes of the log, by what came of them", ["result"],
            registry=registry,
        )  # fmt: skip
        self._epoch_leaves = Histogram(
            "attested_epoch_leaves", "Leaves that one epoch anchored", buckets=_LEAVES,
            registry=registry,
        )  # fmt: skip
        self._epoch_age = Gauge(
            "attested_epoch_age_seconds",
            "How long durable receipts have been waiting for an epoch; 0 if none is",
            registry=registry,
        )
        self._endorsements_left = Gauge(
            "attested_endorsements_seconds_left",
            "Until the first part of the endorsements in bundles ends; NaN if there are none",
            registry=registry,
        )
        self._quotes = Histogram(
            "attested_quote_seconds", "How long quotes took, boot quotes excepted",
            buckets=_QUOTE_SECONDS, registry=registry,
        )  # fmt: skip
        self._checkpoints = Counter(
            "attested_checkpoints", "Signed checkpoints on the medium", registry=registry
        )
        self._earlier_boots = Gauge(
            "attested_earlier_boots", "Boots found in the data folder at the start, by status",
            ["status"], registry=registry,
        )  # fmt: skip
        self._disk_free = Gauge(
            "attested_disk_free_bytes", "Free space of the log's file system", registry=registry
        )
        self._clock_jumps = Counter(
            "attested_clock_jumps", "Times that the wall clock was set", ["direction"],
            registry=registry,
        )  # fmt: skip
        self._condition = Gauge(
            "attested_condition", "1 while a condition of /readyz holds", ["code"],
            registry=registry,
        )  # fmt: skip
        for code in CODES:
            self._condition.labels(code).set(0)
        self._age: Callable[[], float] = lambda: 0.0
        self._healthy = Gauge(
            "attested_notary_healthy", "1 while the boot can issue receipts", registry=registry
        )

    def admitted(self, route: str) -> None:
        """Count an announced request."""
        self._numbered[route if route in ROUTES else OTHER] += 1

    def sealed(self, route: str, end: str) -> None:
        """Count a receipt."""
        self._receipted[route if route in ROUTES else OTHER, end if end in ENDS else OTHER] += 1

    def unauthenticated(self, count: int = 1) -> None:
        """Count requests without a known key."""
        self._unauthenticated.inc(count)

    def unreceipted(self, count: int = 1) -> None:
        """Count refusals without a receipt."""
        self._unreceipted.inc(count)

    def committed(self, *, records: int, seconds: float, log_size: int) -> None:
        """Note a batch that became durable."""
        self._batch.observe(records)
        self._commit.observe(seconds)
        self._log_size.set(log_size)

    def challenged(self, result: str) -> None:
        """Count a challenge that was answered, or how it failed."""
        self._challenges.labels(_closed(result, CHALLENGE_RESULTS)).inc()

    def quoted(self, seconds: float) -> None:
        """Note how long a quote took."""
        self._quotes.observe(seconds)

    def epoch(self, result: str, leaves: int) -> None:
        """Count an epoch that anchored so many leaves, or how an attempt at one failed."""
        self._epochs.labels(_closed(result, EPOCH_RESULTS)).inc()
        if leaves:
            self._epoch_leaves.observe(leaves)

    def watch_epoch_age(self, age: Callable[[], float]) -> None:
        """Ask `age` for the seconds that receipts have been waiting, whenever it is shown."""
        self._age = age
        self._epoch_age.set_function(age)

    def epoch_age(self) -> float:
        """Return the seconds that durable receipts have been waiting for an epoch."""
        return self._age()

    def watch_endorsements(self, left: Callable[[], float]) -> None:
        """Ask `left` for the seconds until the endorsements end, whenever it is shown."""
        self._endorsements_left.set_function(left)

    def checkpointed(self) -> None:
        """Count a durable checkpoint."""
        self._checkpoints.inc()

    def surveyed(self, boots: Mapping[str, int]) -> None:
        """Note how many earlier boots have which status."""
        for status, count in boots.items():
            self._earlier_boots.labels(_closed(status, BOOT_STATUSES)).set(count)

    def disk_free(self, count: int) -> None:
        """Note the free bytes of the log's file system."""
        self._disk_free.set(count)

    def clock_jumped(self, seconds: float) -> None:
        """Count that the wall clock was set, by so many seconds ahead."""
        self._clock_jumps.labels("forward" if seconds > 0 else "back").inc()

    def conditions(self, codes: Collection[str]) -> None:
        """Note which conditions hold; others than the declared ones are not shown."""
        for code in CODES:
            self._condition.labels(code).set(code in codes)

    def healthy(self, state: int) -> None:
        """Note whether the notary issues receipts: 1 or 0."""
        self._healthy.set(state)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        for route, count in self._numbered.items():
            self._admitted.labels(route).inc(count)
            self._in_flight.inc(count)
        for labels, count in self._receipted.items():
            self._sealed.labels(*labels).inc(count)
            self._in_flight.dec(count)
        self._numbered.clear()
        self._receipted.clear()
        return generate_latest(self._registry)


def _closed(value: str, known: Collection[str]) -> str:
    return value if value in known else OTHER
