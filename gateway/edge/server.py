"""Listening: sockets, uvicorn set up so that it logs and adds nothing, and a graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import resource
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from attestation.errors import UsageError
from gateway.edge.crowd import Crowd, fitting_connections
from gateway.edge.door import TlsDoor
from gateway.edge.limits import ConnectionLimits
from gateway.edge.protocol import EdgeProtocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from uvicorn.server import ServerState

    from gateway.edge.tls import BootTls
    from gateway.telemetry.edge import EdgeMetrics

_BACKLOG = 2048
_SOCKET_MODE = 0o660
_LAST_WORDS_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Where to listen: a Unix socket if `uds` is set, else a TCP address; port 0 takes any."""

    host: str = "127.0.0.1"
    port: int = 0
    uds: Path | None = None

    @property
    def is_private(self) -> bool:
        """Whether nothing that is sent there leaves this machine."""
        if self.uds is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def bind(listen: Listen, tls: BootTls | None) -> socket.socket:
    """Return a bound stream socket, or raise `UsageError`.

    Without TLS only loopback addresses and Unix sockets are taken: what callers send must not
    cross the host in the clear.  A Unix socket that no process serves any more is replaced.
    """
    if tls is None and not listen.is_private:
        raise UsageError(
            "plain HTTP is refused on an address others can reach",
            code="plain_http",
            expected="a loopback address or a Unix socket, or TLS",
            observed=f"host {listen.host}",
            hint='set [tls] mode = "self-signed", or listen on 127.0.0.1',
        )
    try:
        return _bind_unix(listen.uds) if listen.uds is not None else _bind_tcp(listen)
    except OSError as error:
        raise UsageError(
            f"the gateway cannot listen on {listen.uds or f'{listen.host} port {listen.port}'}",
            code="listen",
            expected="a free port of an address of this machine, or a socket that can be made",
            # A name that does not resolve has a number of its own kind, which errno cannot explain.
            observed=error.strerror or "an unusable address",
            hint="is another process listening there? see [listen] and [admin] in the settings",
        ) from None


def _bind_tcp(listen: Listen) -> socket.socket:
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        path.chmod(_SOCKET_MODE)
    except OSError:
        sock.close()
        raise
    return sock


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
    return True


class _Config(uvicorn.Config):
    """uvicorn's configuration and what its protocol reads of ours."""

    connection_limits: ConnectionLimits
    crowd: Crowd
    edge_metrics: EdgeMetrics | None


class _TlsProtocol(EdgeProtocol):
    """A connection whose handshake is over: from here on it is counted by itself."""

    def __init__(
        self, config: uvicorn.Config, state: ServerState, entered: Callable[[], None]
    ) -> None:
        super().__init__(config, state, {})
        self._entered = entered

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the place that the handshake had."""
        self._entered()
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: stopping is the caller's decision."""

    def __init__(self, config: _Config) -> None:
        super().__init__(config)
        self._parts = config
        self.servers = []
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are bound, but handshakes are counted and bounded."""
        if self.config.ssl is not None:
            self._open_doors(sockets or [], self.config.ssl)
        else:
            loop = asyncio.get_running_loop()
            self.servers = [
                await loop.create_server(self._protocol, sock=sock, backlog=self.config.backlog)
                for sock in sockets or ()
            ]
        self.started = True
        self.listening.set()

    def _open_doors(self, sockets: list[socket.socket], context: ssl.SSLContext) -> None:
        for sock in sockets:
            door = TlsDoor(
                sock,
                context,
                self._tls_protocol,
                crowd=self._parts.crowd,
                seconds=self._parts.connection_limits.header_seconds,
                count=self._count_refused,
            )
            door.open(self.config.backlog)
            # As far as uvicorn is concerned a server is what can be closed.
            self.servers.append(cast("asyncio.Server", door))

    def _protocol(self) -> asyncio.Protocol:
        return EdgeProtocol(self.config, self.server_state, {})

    def _tls_protocol(self, entered: Callable[[], None]) -> asyncio.Protocol:
        return _TlsProtocol(self.config, self.server_state, entered)

    def _count_refused(self, reason: str) -> None:
        if self._parts.edge_metrics is not None:
            self._parts.edge_metrics.connection_refused(reason)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class EdgeServer:
    """Serves one ASGI application on one bound socket."""

    def __init__(
        self,
        app: Any,  # noqa: ANN401 - uvicorn's own type for an ASGI application is private
        sock: socket.socket,
        *,
        tls: BootTls | None = None,
        limits: ConnectionLimits | None = None,
        drain_seconds: float = 30.0,
        metrics: EdgeMetrics | None = None,
    ) -> None:
        limits = limits or ConnectionLimits()
        config = _Config(
            app,
            http=EdgeProtocol,
            ws="none",
            loop="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            # Its messages about failures carry tracebacks, and those may carry content.
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=max(1, round(drain_seconds)),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls.context(),
        )
        config.connection_limits = limits
        config.edge_metrics = metrics
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        config.crowd = Crowd(
            connections=fitting_connections(limits.connections, descriptors),
            per_address=limits.connections_per_address,
            clock=time.monotonic,
        )
        self._server = _Server(config)
        self._sock = sock
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int] | str:
        """Host and port, or the path of the Unix socket."""
        name = self._sock.getsockname()
        return name if isinstance(name, str) else (name[0], name[1])

    async def start(self) -> None:
        """Accept connections; returns once they are accepted, raises what prevents it."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._sock]))
        ready = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._task, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Accept nothing new, let what runs finish within the drain time, then cut it."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        left = tuple(self._server.server_state.tasks)
        if left:
            # They were cancelled just now, and each still has a receipt to see sealed.
            await asyncio.wait(left, timeout=_LAST_WORDS_SECONDS)
        self._sock.close()

    def cut(self) -> None:
        """End what `stop` still waits for; every request says so and is sealed."""
        self._server.should_exit = True
        self._server.force_exit = True
        for task in tuple(self._server.server_state.tasks):
            task.cancel()

    async def wait(self) -> None:
        """Return when serving has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)
