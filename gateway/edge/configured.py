"""The public address that a gateway's settings describe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gateway.edge.limits import ConnectionLimits
from gateway.edge.server import Listen, bind
from gateway.edge.tls import BootTls

if TYPE_CHECKING:
    import socket

    from gateway.settings import Settings


def new_tls(settings: Settings) -> BootTls | None:
    """Draw the TLS key of a boot, None where TLS is off."""
    if settings.tls.mode == "off":
        return None
    return BootTls.generate(settings.tls.names, now=int(time.time()))


def bind_public(settings: Settings, tls: BootTls | None) -> socket.socket:
    """Bind the address callers use; see `bind`."""
    listen = settings.listen
    return bind(Listen(host=listen.host, port=listen.port, uds=listen.uds), tls)


def url_of(sock: socket.socket, tls: BootTls | None) -> str:
    """Return the address of a bound socket as a URL."""
    name = sock.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if tls is None else 'https'}://{shown}:{port}"


def connection_limits_of(settings: Settings) -> ConnectionLimits:
    """Return what connections of these settings may take."""
    limits = settings.limits
    return ConnectionLimits(
        header_bytes=limits.header_bytes,
        header_count=limits.header_count,
        header_seconds=limits.header_seconds,
        keep_alive_seconds=limits.keep_alive_seconds,
        stall_seconds=limits.stall_seconds,
        connections=limits.connections,
        connections_per_address=limits.connections_per_address,
    )
