"""Where an engine listens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from attestation.errors import UsageError

_AUTHORITY = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """A TCP address or the path of a Unix socket; exactly one of `host` and `path` is set."""

    host: str | None = None
    port: int = 0
    path: str | None = None

    @property
    def authority(self) -> bytes:
        """What the `host` header says."""
        if self.host is None:
            return b"localhost"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{name}:{self.port}".encode("ascii")


def parse_engine_url(url: str) -> EngineAddress:
    """Read `http://host:port` or `unix:/path/to/socket`.

    Raises `UsageError` for anything else: a path, query or credentials would be dropped
    silently, and an engine behind TLS is not inside this trust domain.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path.startswith("/"):
            raise _unusable("unix: followed by an absolute path")
        return EngineAddress(path=path)
    parts = urlsplit(url)
    if parts.scheme != "http" or not _AUTHORITY.fullmatch(parts.netloc):
        raise _unusable("http://host:port or unix:/path")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _unusable("an address without path, query or fragment")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unusable("a port from 1 to 65535") from None
    if not host or port == 0:
        raise _unusable("a host name and a port from 1 to 65535")
    return EngineAddress(host=host, port=port or 80)


def _unusable(expected: str) -> UsageError:
    return UsageError(
        "the engine's address cannot be used",
        code="upstream_url",
        expected=expected,
        hint="set [upstream] url or uds",
    )
