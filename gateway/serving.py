"""A gateway that runs: every part opened in order, and closed in the other."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gateway.access.store import Clocks, KeyStore
from gateway.api.admin import build_admin_app
from gateway.app import AppParts, build_app
from gateway.edge.limits import ConnectionLimits
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.edge.tls import BootTls
from gateway.notary.files import FileLayer
from gateway.notary.local import LocalNotary
from gateway.notary.opening import open_notary_parts
from gateway.telemetry.metrics import Metrics
from gateway.upstream import EngineAddress, Upstream, UpstreamLimits, parse_engine_url

if TYPE_CHECKING:
    from gateway.notary.interface import Boot
    from gateway.settings import Settings
    from gateway.settings.model import UpstreamSettings
    from gateway.telemetry.events import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a gateway listens, as URLs (`unix:PATH` for a socket); `admin` may be absent."""

    public: str
    admin: str | None


class Gateway:
    """One boot of a gateway in this process and event loop.

    `start` opens, in this order: TLS key, socket, keys file, quote provider, notary, engine
    pool, listeners.  What fails undoes what came before.
    """

    def __init__(self, settings: Settings, events: Events, layer: FileLayer) -> None:
        self._settings = settings
        self._layer = layer
        self._events = events
        self._stack = AsyncExitStack()
        self._ended = asyncio.Event()
        self.metrics = Metrics()
        self._notary: LocalNotary | None = None
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

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        tls = _tls_of(settings)
        sock = bind(_listen_of(settings), tls)
        stack.callback(sock.close)
        keys = KeyStore(settings.access.keys_file, Clocks(wall=time.time, monotonic=time.monotonic))
        parts = open_notary_parts(
            settings,
            tls_spki=() if tls is None else (tls.spki_sha256,),
            metrics=self.metrics,
            on_end=self._on_end,
            layer=self._layer,
        )
        self._notary = notary = await LocalNotary.start(parts)
        stack.push_async_callback(notary.close)
        upstream = _upstream_of(settings.upstream)
        stack.callback(upstream.close)
        app = build_app(
            settings,
            AppParts(
                notary=notary,
                keys=keys,
                upstream=upstream,
                events=self._events,
                monotonic=time.monotonic,
            ),
        )
        limits = _connection_limits(settings)
        server = EdgeServer(
            app, sock, tls=tls, limits=limits, drain_seconds=settings.limits.drain_seconds
        )
        admin = await self._open_admin(stack, tls, limits)
        await server.start()
        stack.push_async_callback(server.stop)
        self._addresses = Addresses(public=_url(server, tls), admin=admin)
        self._announce()

    async def _open_admin(
        self, stack: AsyncExitStack, tls: BootTls | None, limits: ConnectionLimits
    ) -> str | None:
        admin = self._settings.admin
        if admin.port is None:
            return None
        sock = bind(Listen(host=admin.host, port=admin.port), None)
        stack.callback(sock.close)
        server = EdgeServer(
            build_admin_app(self.metrics, tls), sock, limits=limits, drain_seconds=1.0
        )
        await server.start()
        stack.push_async_callback(server.stop)
        return _url(server, None)

    def _announce(self) -> None:
        boot, addresses = self.boot, self.addresses
        self._events.emit(
            "boot.started",
            origin=boot.log_origin,
            keyset_digest=boot.keyset_digest.hex,
            provider=boot.provider,
        )
        self._events.emit("listening", address=addresses.public)

    def _on_end(self, reason: str) -> None:
        self._events.emit("boot.ended", reason=reason)
        self._ended.set()


def _tls_of(settings: Settings) -> BootTls | None:
    if settings.tls.mode == "off":
        return None
    return BootTls.generate(settings.tls.names, now=int(time.time()))


def _listen_of(settings: Settings) -> Listen:
    listen = settings.listen
    return Listen(host=listen.host, port=listen.port, uds=listen.uds)


def _connection_limits(settings: Settings) -> ConnectionLimits:
    limits = settings.limits
    return ConnectionLimits(
        header_bytes=limits.header_bytes,
        header_count=limits.header_count,
        header_seconds=limits.header_seconds,
    )


def _upstream_of(settings: UpstreamSettings) -> Upstream:
    limits = UpstreamLimits(
        connect_timeout=settings.connect_timeout,
        first_byte_timeout=settings.first_byte_timeout,
        idle_timeout=settings.idle_timeout,
        total_timeout=settings.total_timeout,
    )
    # Only a Unix socket is known to end in this trust domain; a port of it could be forwarded.
    return Upstream(
        _address_of(settings), limits, name=settings.name, local=settings.uds is not None
    )


def _address_of(settings: UpstreamSettings) -> EngineAddress:
    if settings.url is not None:
        return parse_engine_url(settings.url)
    return EngineAddress(path=str(settings.uds))


def _url(server: EdgeServer, tls: BootTls | None) -> str:
    address = server.address
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if tls is None else 'https'}://{shown}:{port}"
