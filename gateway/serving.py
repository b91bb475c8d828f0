"""A gateway that runs: every part opened in order, and closed in the other.

`Gateway` is all of it in one process.  `gateway.processes` puts the same parts into several.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gateway.access.configured import load_key_store, open_budgets
from gateway.api.admin import build_admin_app
from gateway.app import AppParts, build_app, reporter
from gateway.edge.configured import bind_public, connection_limits_of, new_tls, url_of
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.waiting import NotaryWaits, WaitLimits
from gateway.notary.conditions import Conditions, rules_of
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from gateway.notary.opening import open_notary_parts
from gateway.telemetry.edge import EdgeMetrics
from gateway.telemetry.families import Sums
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import all_of, event_writer
from gateway.telemetry.spans import open_spans
from gateway.telemetry.usage import usage
from gateway.upstream.configured import check_own_engines, engines_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from gateway.access.budgets import BudgetKeeper
    from gateway.access.store import KeyStore
    from gateway.api.admin import CertifiableTls, ReadMetrics
    from gateway.edge.tls import BootTls
    from gateway.notary.interface import Boot, Notary
    from gateway.settings import Settings
    from gateway.telemetry.events import Events
    from gateway.telemetry.requests import Observe


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a gateway listens, as URLs (`unix:PATH` for a socket); `admin` may be absent."""

    public: str
    admin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeParts:
    """What one process that serves callers is made of; `share` is how many there are."""

    settings: Settings
    notary: Notary
    keys: KeyStore
    events: Events
    tls: BootTls | None
    metrics: EdgeMetrics
    waits: NotaryWaits
    conditions: Callable[[], tuple[str, ...]] = tuple
    share: int = 1


async def open_edge(stack: AsyncExitStack, parts: EdgeParts, sock: socket.socket) -> EdgeServer:
    """Serve the whole HTTP surface on a bound socket; `stack` closes it again."""
    settings = parts.settings
    engines = engines_of(settings, parts.metrics.engine_state, parts.share)
    stack.callback(engines.close)
    # Both end after the server, whose last requests need them.
    observe = open_observer(stack, settings, parts.events)
    parts.waits.start()
    stack.push_async_callback(parts.waits.close)
    app = build_app(
        settings,
        AppParts(
            notary=parts.notary,
            keys=parts.keys,
            upstream=engines,
            events=parts.events,
            monotonic=time.monotonic,
            metrics=parts.metrics,
            waits=parts.waits,
            conditions=parts.conditions,
            observe=observe,
            share=parts.share,
        ),
    )
    server = EdgeServer(
        app,
        sock,
        tls=parts.tls,
        limits=connection_limits_of(settings),
        drain_seconds=settings.limits.drain_seconds,
        metrics=parts.metrics,
    )
    await server.start()
    stack.push_async_callback(server.stop)
    engines.watch()
    return server


def open_observer(stack: AsyncExitStack, settings: Settings, events: Events) -> Observe | None:
    """Return what is told of every request that ended; None where the settings ask for nothing.

    Raises `UsageError` if a package for it is missing.
    """
    telemetry = settings.telemetry
    observers: list[Observe] = []
    if telemetry.request_events != "off":
        observers.append(event_writer(telemetry.request_events, events.emit))
    if telemetry.otlp_endpoint is not None:
        spans = open_spans(telemetry.otlp_endpoint, settings.name)
        stack.push_async_callback(asyncio.to_thread, spans.close)
        observers.append(spans)
    return all_of(observers, reporter(events))


async def open_admin(
    stack: AsyncExitStack,
    settings: Settings,
    read_metrics: ReadMetrics,
    tls: CertifiableTls | None,
) -> str | None:
    """Serve the admin listener if one is set, and return its address."""
    admin = settings.admin
    if admin.port is None:
        return None
    sock = bind(Listen(host=admin.host, port=admin.port), None)
    stack.callback(sock.close)
    app = build_admin_app(read_metrics, tls)
    server = EdgeServer(app, sock, limits=connection_limits_of(settings), drain_seconds=1.0)
    await server.start()
    stack.push_async_callback(server.stop)
    return url_of(sock, None)


class OwnTls:
    """The TLS key of a gateway in one process, for the admin listener."""

    def __init__(self, tls: BootTls) -> None:
        self._tls = tls

    def csr(self) -> bytes:
        """Return a certificate request in PEM."""
        return self._tls.csr()

    async def install(self, chain_pem: bytes) -> int:
        """Use this chain from the next handshake on."""
        return self._tls.install(chain_pem)


class Gateway:
    """One boot of a gateway in this process and event loop.

    `start` opens, in this order: TLS key, socket, keys file, a look at the engines, quote
    provider, notary, engine pool, listeners.  What fails undoes what came before.
    """

    def __init__(self, settings: Settings, events: Events, layer: FileLayer) -> None:
        self._settings = settings
        self._layer = layer
        self._events = events
        self._stack = AsyncExitStack()
        self._ended = asyncio.Event()
        self.metrics = Metrics()
        self.edge_metrics = edge_metrics_of(settings)
        self._waits: NotaryWaits | None = None
        self._budgets: BudgetKeeper | None = None
        self._notary: LocalNotary | None = None
        self._server: EdgeServer | None = None
        self._addresses: Addresses | None = None

    @classmethod
    async def start(
        cls, settings: Settings, events: Events, *, layer: FileLayer | None = None
    ) -> Self:
        """Return a gateway that accepts connections.  `layer` is for tests that break disks.

        Raises `UsageError`, `UnavailableError` or `MalformedError` for what prevents it.
        """
        gateway = cls(settings, events, layer or FileLayer())
        async with AsyncExitStack() as stack:
            await gateway._open(stack)
            gateway._stack = stack.pop_all()
        return gateway

    @property
    def boot(self) -> Boot:
        """What the notary shows for its boot."""
        return self.notary.boot

    @property
    def notary(self) -> LocalNotary:
        """The notary of this boot."""
        if self._notary is None:
            raise RuntimeError("the gateway has not started")
        return self._notary

    @property
    def addresses(self) -> Addresses:
        """Where it listens."""
        if self._addresses is None:
            raise RuntimeError("the gateway has not started")
        return self._addresses

    async def wait_ended(self) -> str:
        """Return the reason once the notary's boot has ended."""
        await self._ended.wait()
        return self.notary.reason

    async def stop(self) -> None:
        """Accept nothing new, let requests end or cut them, seal what is left, close."""
        await self._stack.aclose()

    async def metrics_text(self) -> bytes:
        """Return the metrics of the notary and of this process in Prometheus' text format."""
        sums = Sums()
        waits = {} if self._waits is None else self._waits.snapshot()
        kept = {} if self._budgets is None else self._budgets.snapshot()
        for snapshot in (self.edge_metrics.snapshot(), waits, kept, usage("gateway")):
            sums.add(snapshot)
        return await self.notary.metrics_text() + sums.render()

    def cut(self) -> None:
        """End the requests that `stop` still waits for."""
        if self._server is not None:
            self._server.cut()

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        tls = new_tls(settings)
        sock = bind_public(settings, tls)
        stack.callback(sock.close)
        keys = load_key_store(settings)
        await check_own_engines(settings, self._events)
        parts = open_notary_parts(
            settings,
            tls_spki=() if tls is None else (tls.spki_sha256,),
            metrics=self.metrics,
            on_end=self._on_end,
            emit=self._events.emit,
            layer=self._layer,
        )
        self._notary = notary = await LocalNotary.start(parts)
        stack.push_async_callback(notary.close)
        self._budgets = budgets = open_budgets(stack, settings, keys.table, self._events)
        own = None if tls is None else OwnTls(tls)
        conditions = await open_conditions(
            stack, settings, self.metrics, self._events, layer=self._layer
        )
        self._waits = notary_waits_of(settings, notary, self._events)
        admin = await open_admin(stack, settings, self.metrics_text, own)
        edge = EdgeParts(
            settings=settings,
            notary=notary,
            keys=keys,
            events=self._events,
            tls=tls,
            metrics=self.edge_metrics,
            waits=self._waits,
            conditions=lambda: (*conditions.codes, budgets.code),
        )
        self._server = await open_edge(stack, edge, sock)
        self._addresses = Addresses(public=url_of(sock, tls), admin=admin)
        announce_start(self._events, self.boot, self.addresses)

    def _on_end(self, reason: str) -> None:
        self._events.emit("boot.ended", reason=reason)
        self._ended.set()


def announce_start(events: Events, boot: Boot, addresses: Addresses) -> None:
    """Log that a boot began and where it listens."""
    events.emit(
        "boot.started",
        origin=boot.log_origin,
        keyset_digest=boot.keyset_digest.hex,
        provider=boot.provider,
    )
    events.emit("listening", address=addresses.public)


def edge_metrics_of(settings: Settings) -> EdgeMetrics:
    """Return what a process that serves callers counts with these settings."""
    return EdgeMetrics(engine.name for engine in settings.engines)


def notary_waits_of(settings: Settings, notary: Notary, events: Events) -> NotaryWaits:
    """Return who waits for this notary; `open_edge` has somebody look at them."""
    limits = WaitLimits(
        slow_seconds=settings.notary.slow_seconds,
        patience_seconds=settings.notary.patience_seconds,
    )
    return NotaryWaits(notary, limits, emit=events.emit)


async def open_conditions(
    stack: AsyncExitStack,
    settings: Settings,
    metrics: Metrics,
    events: Events,
    *,
    layer: FileLayer,
    tell: Callable[[tuple[str, ...]], None] = lambda _codes: None,
) -> Conditions:
    """Look at disk, clock and epochs of a notary that runs, until `stack` closes."""
    conditions = Conditions(
        rules_of(settings),
        folder=settings.notary.data_dir,
        layer=layer,
        metrics=metrics,
        tell=tell,
        emit=events.emit,
    )
    await conditions.start()
    stack.push_async_callback(conditions.close)
    return conditions
