"""Where a gateway is: the address, and what a client may do over it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from attestation.errors import UsageError

INFERENCE_PATHS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/tokenize",
        "/detokenize",
    }
)
"""The routes whose every authenticated answer has a receipt (SPEC section 9)."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One gateway: `origin` is scheme, host and port; `uds` the socket to reach it by, if any."""

    origin: str
    uds: str | None = None

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.origin.startswith("https:")

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        return f"{self.origin}/v1"


def parse_endpoint(url: str) -> Endpoint:
    """The gateway at `https://HOST[:PORT][/v1]`, `http://LOOPBACK[:PORT][/v1]` or `unix:PATH`.

    Raises `UsageError` for anything else: plain HTTP beyond this machine would hand prompts to
    whoever is on the way.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path.startswith("/"):
            raise _unusable(url, "unix: and the absolute path of a socket")
        return Endpoint(origin="http://localhost", uds=path)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _unusable(url, "a URL") from None
    bare = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not bare:
        raise _unusable(url, "https://HOST[:PORT], without user, query or fragment")
    if parts.path.rstrip("/") not in {"", "/v1"}:
        raise _unusable(url, "no path, or /v1: the gateway's own routes stand at its root")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _unusable(url, "https: plain HTTP is for loopback addresses and Unix sockets only")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # Written as every httpx writes it: without the port that the scheme implies.
    shown = "" if port in {None, _PORTS[parts.scheme]} else f":{port}"
    return Endpoint(origin=f"{parts.scheme}://{host}{shown}")


def is_loopback(host: str) -> bool:
    """Whether connections to this host name or address never leave the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unusable(url: str, expected: str) -> UsageError:
    # A URL may hold a password; its scheme is all that is ever repeated.
    scheme = url.partition(":")[0][:16]
    return UsageError(
        "this is no address of a gateway",
        code="address",
        expected=expected,
        observed=f"another address ({scheme!a}: …)",
    )
