"""What one process that serves callers counts: plain integers, no object of a metrics library.

Every label takes its values from a closed set fixed here or in the settings (names of engines);
whatever else is handed in is counted as "other".  So no text of a caller or an engine becomes a
label, and the memory is bounded.  A call costs a dictionary access or two; nothing is called for
an event of a stream.  `snapshot` is what `gateway.telemetry.families` adds up and renders.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final

from attestation.receipt.claims import End
from gateway.edge.routes import PATHS
from gateway.errors import UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

OTHER: Final = "other"
CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
SHED: Final = frozenset({"concurrency", "memory", "notary", "refusals", "requests"})
CONNECTION_REFUSALS: Final = frozenset(
    {"connections", "handshake_time", "header_size", "header_time", "malformed", "per_address"}
)
QUOTA_KINDS: Final = frozenset({"budget", "requests", "table", "tokens"})
ATTEMPT_OUTCOMES: Final = frozenset({"ok", *(str(kind) for kind in UpstreamFailure)})
ENGINE_STATES: Final = ("up", "half_open", "open")
REWRITES: Final = frozenset({"cache_salt"})

WHOLE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
FIRST_SECONDS: Final = WHOLE_SECONDS[:-1]
SEAL_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

Snapshot = dict[str, Any]


class Spread:
    """How many values fell below which bound, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class EdgeMetrics:
    """The counts of one process, from its start.

    `engines` are the names of the engines in the settings.  An object made with no argument is
    complete: whoever needs one and is given none makes its own.
    """

    def __init__(self, engines: Iterable[str] = ("engine",)) -> None:
        routes = (*sorted(PATHS), OTHER)
        names = (*engines, OTHER)
        self._running = dict.fromkeys(routes, 0)
        self._begun = dict.fromkeys(routes, 0)
        self._first = {route: Spread(FIRST_SECONDS) for route in routes}
        self._whole = {route: Spread(WHOLE_SECONDS) for route in routes}
        self._ended: dict[tuple[str, str, int], int] = {
            (route, end, kind): 0
            for route in routes
            for end in (*map(str, End), OTHER)
            for kind in range(len(CLASSES))
        }
        self._shed = dict.fromkeys((*sorted(SHED), OTHER), 0)
        self._refused = dict.fromkeys((*sorted(CONNECTION_REFUSALS), OTHER), 0)
        self._quota = dict.fromkeys((*sorted(QUOTA_KINDS), OTHER), 0)
        self._rewrites = dict.fromkeys((*sorted(REWRITES), OTHER), 0)
        self._attempts = {
            (name, out): 0 for name in names for out in (*sorted(ATTEMPT_OUTCOMES), OTHER)
        }
        self._answering = {name: Spread(FIRST_SECONDS) for name in names}
        self._states = dict.fromkeys(names[:-1], ENGINE_STATES[0])
        self._sealing = Spread(SEAL_SECONDS)
        self._unsealed = 0
        self._slow = 0
        self._connections = 0
        self._accepted = 0

    # -- requests --------------------------------------------------------------------------

    def began(self, route: str) -> None:
        """Count a request that has a key, before its body is read; `ended` follows."""
        if route not in self._running:
            route = OTHER
        self._begun[route] += 1
        self._running[route] += 1

    def first_byte(self, route: str, seconds: float) -> None:
        """Note the time from the request's head to the first byte of its answer's body."""
        self._first[route if route in self._first else OTHER].note(seconds)

    def ended(self, route: str, end: str, status: int, seconds: float) -> None:
        """Count the end of what `began`: the receipt's `end`, the status that was sent, or 0."""
        if route not in self._running:
            route = OTHER
        self._running[route] -= 1
        self._whole[route].note(seconds)
        key = (route, end, status // 100)
        if key not in self._ended:
            key = (route, end if (route, end, 5) in self._ended else OTHER, 5)
        self._ended[key] += 1

    def shed(self, reason: str) -> None:
        """Count a request that was turned away because there was too much to do."""
        _count(self._shed, reason)

    def quota_refused(self, kind: str) -> None:
        """Count a request over a quota of its key."""
        _count(self._quota, kind)

    def rewritten(self, code: str) -> None:
        """Count a body that was changed on its way."""
        _count(self._rewrites, code)

    # -- connections -----------------------------------------------------------------------

    def connection(self, delta: int) -> None:
        """Note a caller's connection that was accepted (1) or ended (-1)."""
        self._connections += delta
        if delta > 0:
            self._accepted += delta

    def connection_refused(self, reason: str) -> None:
        """Count a connection that was closed for what came over it, or for being too many."""
        _count(self._refused, reason)

    def slow_client(self) -> None:
        """Count a caller that was left because it took nothing."""
        self._slow += 1

    # -- engines and notary ----------------------------------------------------------------

    def attempt(self, up: str, out: str, seconds: float) -> None:
        """Count one try at an engine: "ok" or an `UpstreamFailure`, and the time to its head."""
        key = (up, out)
        if key not in self._attempts:
            up = up if up in self._answering else OTHER
            key = (up, out if out in ATTEMPT_OUTCOMES else OTHER)
        self._attempts[key] += 1
        self._answering[up].note(seconds)

    def engine_state(self, up: str, state: str) -> None:
        """Note the state of an engine: one of `ENGINE_STATES`; any other is no engine's."""
        if up in self._states and state in ENGINE_STATES:
            self._states[up] = state

    def sealed(self, seconds: float) -> None:
        """Note how long the notary took from an outcome to its durable receipt."""
        self._sealing.note(seconds)

    def unsealed(self) -> None:
        """Count an answer that was discarded because it got no receipt."""
        self._unsealed += 1

    # -- what is shown ---------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many requests run now."""
        return sum(self._running.values())

    def snapshot(self) -> Snapshot:
        """Return everything as plain JSON values, by the names of `families.FAMILIES`.

        Series are lists: the label values, then the value; of a histogram, then the count in
        each bucket and the sum.  Series that are zero are left out, except those without labels.
        """
        return {
            "attested_requests_begun": _shown(self._begun),
            "attested_requests_ended": [
                [[route, end, CLASSES[kind]], count]
                for (route, end, kind), count in self._ended.items()
                if count
            ],
            "attested_requests_running": [
                [[route], count] for route, count in self._running.items()
            ],
            "attested_request_first_byte_seconds": _spreads(self._first),
            "attested_request_seconds": _spreads(self._whole),
            "attested_requests_shed": _shown(self._shed),
            "attested_quota_refused": _shown(self._quota),
            "attested_bodies_rewritten": _shown(self._rewrites),
            "attested_connections_open": [[[], self._connections]],
            "attested_connections_accepted": [[[], self._accepted]],
            "attested_connections_refused": _shown(self._refused),
            "attested_slow_clients": [[[], self._slow]],
            "attested_engine_attempts": [
                [[up, out], count] for (up, out), count in self._attempts.items() if count
            ],
            "attested_engine_head_seconds": _spreads(self._answering),
            "attested_engine_state": [
                [[up, state], int(state == now)]
                for up, now in self._states.items()
                for state in ENGINE_STATES
            ],
            "attested_seal_seconds": [[[], self._sealing.counts[:], self._sealing.total]],
            "attested_answers_unsealed": [[[], self._unsealed]],
        }


def _count(counts: dict[str, int], name: str) -> None:
    counts[name if name in counts else OTHER] += 1


def _shown(counts: dict[str, int]) -> list[Any]:
    return [[[name], count] for name, count in counts.items() if count]


def _spreads(spreads: dict[str, Spread]) -> list[Any]:
    return [
        [[name], spread.counts[:], spread.total]
        for name, spread in spreads.items()
        if any(spread.counts)
    ]
