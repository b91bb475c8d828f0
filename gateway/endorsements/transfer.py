"""Getting one document over HTTP: bounded, patient within a deadline, never redirected."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2

from attestation.errors import MalformedError, UnavailableError, UsageError
from gateway.client.endpoint import is_loopback
from gateway.endorsements.answers import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_SILENCE_SECONDS = 15.0
_LEAST_SECONDS = 0.1
_TOO_MANY = 429
_LAST_PORT = 65_535
_OFFLINE = (
    "where no network is: fetch on another machine, `attested endorsements export`, "
    "and carry the file over for evidence.collateral_file or --endorsements"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The body and headers (case-insensitive) of a document with status 200."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long all transfers together may take (seconds), and the clock that says so."""

    seconds: float = 60.0
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)


class Transfer:
    """Gets documents until a deadline that counts from its making.

    Certificates are checked against the system's roots or those in `roots`, a PEM file; proxies
    and SSL_CERT_FILE come from the environment, except for loopback addresses.  Network faults,
    status 429 and 5xx are tried again with growing pauses; everything else is final.
    """

    def __init__(self, patience: Patience | None = None, *, roots: Path | None = None) -> None:
        self._patience = patience or Patience()
        self._deadline = self._patience.monotonic() + self._patience.seconds
        self._tls = _context(roots)

    def get(self, url: str) -> Answer:
        """Return the document at `url`.

        Raises `UsageError` for plain HTTP beyond this machine, `UnavailableError` if it cannot
        be had (code "unreachable", "status", "absent", "redirect"), `MalformedError` if it is
        larger than a mebibyte.
        """
        pause = _FIRST_PAUSE
        with self._client(url) as client:
            while True:
                try:
                    return self._in_time(lambda: self._once(client, url))
                except _Passing as fault:
                    wait = max(pause, fault.retry_after)
                    if self._left() <= wait:
                        raise fault.final(url) from fault.__cause__
                    self._patience.sleep(wait)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def _client(self, url: str) -> httpx2.Client:
        local = require_secure(url.partition("?")[0])
        try:
            return httpx2.Client(verify=self._tls, trust_env=not local)
        except (httpx2.InvalidURL, ValueError, OSError) as error:
            raise UsageError(
                "the environment names a proxy or certificates that cannot be used",
                code="environment",
                expected="usable HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR",
            ) from error

    def _in_time(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` does, by the deadline: a timeout for each byte is no bound for all."""
        done: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put(call())
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                done.put(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            result = done.get(timeout=max(self._left(), _LEAST_SECONDS))
        except queue.Empty:
            raise _Passing("it is still being sent", code="unreachable") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _once(self, client: httpx2.Client, url: str) -> Answer:
        # Every try takes its share of what is left, so that the last one ends in time as well.
        silence = max(min(_SILENCE_SECONDS, self._left()), _LEAST_SECONDS)
        try:
            with client.stream("GET", url, headers=_HEADERS, timeout=silence) as answer:
                _require_ok(answer, url)
                return Answer(body=self._body(answer, url), headers=answer.headers)
        except httpx2.HTTPError as error:
            raise _Passing(_seen(error), code="unreachable") from error

    def _body(self, answer: httpx2.Response, url: str) -> bytes:
        data = bytearray()
        for piece in answer.iter_raw():
            data += piece
            if len(data) > MAX_ANSWER_BYTES:
                raise MalformedError(
                    f"the answer of {_origin(url)} is too large",
                    code="size",
                    expected=f"at most {MAX_ANSWER_BYTES} bytes",
                )
            if self._left() < 0:
                raise _Passing("it is still being sent", code="unreachable")
        return bytes(data)

    def _left(self) -> float:
        return self._deadline - self._patience.monotonic()


def require_secure(url: str) -> bool:
    """Return whether `url` is of this machine; plain HTTP to any other is a `UsageError`."""
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise _no_address() from None
    bare = not (parts.userinfo or parts.query) and (parts.port or 0) <= _LAST_PORT
    if not parts.host or parts.scheme not in ("http", "https") or not bare:
        raise _no_address()
    if parts.scheme == "http" and not is_loopback(parts.host):
        raise UsageError(
            "endorsements are not fetched over plain HTTP",
            code="address",
            expected="https (http is for loopback addresses only)",
            observed=_origin(url),
            hint="a PCCS with a certificate of its own is reached with --tls-root FILE",
        )
    return is_loopback(parts.host)


def _no_address() -> UsageError:
    return UsageError(
        "this is no address of a service",
        code="address",
        expected='"pcs", or https://HOST[:PORT] without user and query',
    )


_HEADERS = {"accept-encoding": "identity", "user-agent": "attested-gateway"}


class _Passing(Exception):  # noqa: N818 - not an error yet: it may pass
    """A failure that may be gone at the next try; `retry_after` is in seconds."""

    def __init__(self, seen: str, *, code: str, retry_after: float = 0.0) -> None:
        super().__init__(seen)
        self.seen = seen
        self.code = code
        self.retry_after = retry_after

    def final(self, url: str) -> UnavailableError:
        return UnavailableError(
            f"endorsements could not be fetched from {_origin(url)}",
            code=self.code,
            expected="an answer within --timeout seconds",
            observed=self.seen,
            hint=_OFFLINE,
        )


def _require_ok(answer: httpx2.Response, url: str) -> None:
    status = answer.status_code
    if status == 200:
        return
    if status == _TOO_MANY or status >= 500:
        raise _Passing(f"status {status}", code="status", retry_after=_retry_after(answer))
    if 300 <= status < 400:
        raise UnavailableError(
            f"{_origin(url)} sends its callers elsewhere",
            code="redirect",
            expected="the documents themselves",
            observed=f"status {status}",
            hint="give the address they are really at with --from; redirects are not followed",
        )
    raise UnavailableError(
        f"{_origin(url)} has no such document",
        code="absent" if status in (404, 410) else "status",
        expected="status 200",
        observed=f"status {status} for {urlsplit(url).path}",
        hint="check FMSPC and CA; a PCCS may have to be told of this platform first",
    )


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _seen(error: httpx2.HTTPError) -> str:
    # Only while connecting are the words the system's own, and not what a peer may have sent.
    if isinstance(error, httpx2.ConnectError):
        return f"ConnectError: {error}"
    return type(error).__name__


def _context(roots: Path | None) -> ssl.SSLContext | bool:
    if roots is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(roots))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{str(roots)!a} holds no root certificates",
            code="tls_root",
            expected="a file of PEM certificates",
        ) from error
