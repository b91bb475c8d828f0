"""A log read over the network, and the evidence of the gateway that serves it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from attestation.errors import MalformedError, UnavailableError, UsageError
from gateway.client.channel import checked_context
from gateway.client.endpoint import Endpoint, parse_endpoint
from gateway.client.evidence import fetch_evidence

if TYPE_CHECKING:
    from attestation.bundle import Bundle

PREFIX = "/v1/log"
SILENCE_SECONDS = 30.0
RESOURCE_SECONDS = 120.0
_ABSENT = frozenset({404, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAddress:
    """Where a log is served: `path` on `endpoint` is what `/checkpoint` and `/tile/…` follow."""

    endpoint: Endpoint
    path: str

    @property
    def of_gateway(self) -> bool:
        """Whether a gateway serves its own log here, and its evidence beside it."""
        return self.path == PREFIX


def parse_log_address(url: str) -> LogAddress:
    """Return the log at `https://HOST[:PORT]/PATH`, `http://LOOPBACK…` or `unix:PATH`.

    Without a path, or with `/v1`, the gateway's own `/v1/log` is meant; any other path is that of
    a copy.  Raises `UsageError`.
    """
    if url.startswith("unix:"):
        return LogAddress(endpoint=parse_endpoint(url), path=PREFIX)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("this is no address of a log", code="address", expected="a URL") from None
    path = parts.path.rstrip("/")
    # Everything but the path is as in the address of a gateway.
    endpoint = parse_endpoint(parts._replace(path="").geturl())
    return LogAddress(endpoint=endpoint, path=PREFIX if path in {"", "/v1"} else path)


class HttpLog:
    """A log behind a URL; an `attestation.log.Source`.

    No credential is sent and no certificate is asked for: what is read is public, and its
    signature is what it is believed for.  A resource gets two minutes, a silence 30 seconds.
    """

    def __init__(self, address: LogAddress) -> None:
        self._address = address
        endpoint = address.endpoint
        transport = httpx2.HTTPTransport(
            verify=checked_context(lambda _spki: None), uds=endpoint.uds
        )
        self._client = httpx2.Client(transport=transport, timeout=SILENCE_SECONDS, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def load_boot(self) -> Bundle | None:
        """Return the evidence the gateway shows for its boot; None where a copy is served."""
        address = self._address
        return fetch_evidence(address.endpoint).bundle if address.of_gateway else None

    def read(self, path: str, *, limit: int) -> bytes | None:
        """Return a resource; None if the server says that there is none.

        Raises `UnavailableError` if it does not answer, or answers something else.
        """
        url = f"{self._address.endpoint.origin}{self._address.path}/{path}"
        try:
            with self._client.stream("GET", url, headers=_HEADERS) as answer:
                if answer.status_code in _ABSENT:
                    return None
                if answer.status_code != 200:
                    raise _unavailable(path, f"status {answer.status_code}")
                return _bounded(answer, path, limit)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unavailable(path, type(error).__name__) from error


# c2sp.org/tlog-tiles, "Log entries": bundles may come compressed.
_HEADERS = {"accept-encoding": "gzip, identity"}


def _bounded(answer: httpx2.Response, path: str, limit: int) -> bytes:
    deadline = time.monotonic() + RESOURCE_SECONDS
    data = bytearray()
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > limit:
            raise MalformedError(
                f"{path} is too large", code="log_resource", expected=f"at most {limit} bytes"
            )
        if time.monotonic() > deadline:
            raise _unavailable(path, f"not all of it within {RESOURCE_SECONDS:g} s")
    return bytes(data)


def _unavailable(path: str, observed: str) -> UnavailableError:
    return UnavailableError(
        f"the log cannot be read: no answer for {path}",
        code="unreachable",
        expected="status 200, or 404 for what the log does not have",
        observed=observed,
        hint="is the gateway running, and is this where it serves its log (…/v1/log)?",
    )
