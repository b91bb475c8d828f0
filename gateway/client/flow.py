"""What both generations of httpx have in common, so that the recording is written once.

`httpx2` and `httpx` have the same interface and different classes; each module of transports
adds only its own stream classes.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from attestation.errors import AttestationError
from gateway.client.channel import spki_digest
from gateway.client.recorder import Fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from attestation.encoding.digest import Digest
    from gateway.client.recorder import Pending, Recorder, Tap


class UrlLike(Protocol):
    """An absolute URL."""

    @property
    def scheme(self) -> str:
        """The scheme, http or https."""

    @property
    def netloc(self) -> bytes:
        """Host, and the port unless the scheme implies it."""

    @property
    def path(self) -> str:
        """The path, decoded."""


class HeadersLike(Fields, Protocol):
    """Header fields that can be set."""

    def __setitem__(self, key: str, value: str) -> None: ...


class RequestLike(Protocol):
    """A request whose body may still have to be read."""

    method: str

    @property
    def url(self) -> UrlLike:
        """Where it goes."""

    @property
    def headers(self) -> HeadersLike:
        """Its header fields."""

    def read(self) -> bytes:
        """The body, and keep it."""

    async def aread(self) -> bytes:
        """The body, and keep it."""


@runtime_checkable
class SyncStream(Protocol):
    """Raw bytes of an answer."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None:
        """Give the connection back."""


@runtime_checkable
class AsyncStream(Protocol):
    """Raw bytes of an answer."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Give the connection back."""


class ResponseLike(Protocol):
    """An answer whose head was read."""

    status_code: int

    @property
    def headers(self) -> Fields:
        """Its header fields."""

    @property
    def extensions(self) -> Mapping[str, Any]:
        """What the transport adds: "network_stream" is the connection."""

    @property
    def stream(self) -> object:
        """Its raw bytes: a `SyncStream` or an `AsyncStream`."""


Request = TypeVar("Request", bound=RequestLike)
Response = TypeVar("Response", bound=ResponseLike)


def send(
    request: Request,
    transmit: Callable[[Request], Response],
    recorder: Recorder,
    rebuilt: Callable[[Response, Tap], Response],
) -> Response:
    """Send `request` and return the answer with its stream tapped.

    Raises `AttestationError` for what is refused before its body, and what `transmit` raises;
    the receipt is checked while the body is read.
    """
    pending = _begin(request, recorder, request.read())
    if pending is None:
        return transmit(request)
    with _reporting(pending.failed):
        response = transmit(request)
    stream = sync_stream(response.stream)
    try:
        tap = pending.answer(response.status_code, response.headers, peer_of(response))
    except AttestationError:
        stream.close()
        raise
    return rebuilt(response, tap)


async def send_async(
    request: Request,
    transmit: Callable[[Request], Awaitable[Response]],
    recorder: Recorder,
    rebuilt: Callable[[Response, Tap], Response],
) -> Response:
    """Do the same without blocking."""
    pending = _begin(request, recorder, await request.aread())
    if pending is None:
        return await transmit(request)
    with _reporting(pending.failed):
        response = await transmit(request)
    stream = async_stream(response.stream)
    try:
        tap = pending.answer(response.status_code, response.headers, peer_of(response))
    except AttestationError:
        await stream.aclose()
        raise
    return rebuilt(response, tap)


def pass_on(inner: SyncStream, tap: Tap) -> Iterator[bytes]:
    """The answer's bytes as the application may see them; the last only once they hold."""
    with _reporting(tap.cut):
        for data in inner:
            if released := tap.feed(data):
                yield released
    if rest := tap.finish():
        yield rest


async def pass_on_async(inner: AsyncStream, tap: Tap) -> AsyncIterator[bytes]:
    """Do the same without blocking."""
    with _reporting(tap.cut):
        async for data in inner:
            if released := tap.feed(data):
                yield released
    if rest := tap.finish():
        yield rest


def close(inner: SyncStream, tap: Tap) -> None:
    """The application is done with the answer, perhaps before its end."""
    try:
        tap.left()
    finally:
        inner.close()


async def close_async(inner: AsyncStream, tap: Tap) -> None:
    """Do the same without blocking."""
    try:
        tap.left()
    finally:
        await inner.aclose()


def sync_stream(stream: object) -> SyncStream:
    """The stream of a blocking transport."""
    if not isinstance(stream, SyncStream):
        raise TypeError("expected a blocking stream: this transport is for a blocking client")
    return stream


def async_stream(stream: object) -> AsyncStream:
    """The stream of a transport that does not block."""
    if not isinstance(stream, AsyncStream):
        raise TypeError("expected an async stream: this transport is for an async client")
    return stream


def peer_of(response: ResponseLike) -> Digest | None:
    """SHA-256 of the peer's SubjectPublicKeyInfo, None where the connection is not TLS."""
    connection = response.extensions.get("network_stream")
    ssl_object = connection.get_extra_info("ssl_object") if connection is not None else None
    if ssl_object is None:
        return None
    # By position: what blocking connections give is the C object below SSLSocket.
    certificate = ssl_object.getpeercert(True)  # noqa: FBT003
    return spki_digest(certificate) if certificate is not None else None


def _begin(request: RequestLike, recorder: Recorder, body: bytes) -> Pending | None:
    url = request.url
    pending = recorder.begin(
        method=request.method,
        origin=f"{url.scheme}://{url.netloc.decode('ascii')}",
        path=url.path,
        headers=request.headers,
        body=body,
    )
    if pending is not None:
        for name, value in pending.headers.items():
            request.headers[name] = value
    return pending


@contextlib.contextmanager
def _reporting(report: Callable[[], None]) -> Iterator[None]:
    """Report any failure inside, whatever it is, and let it go on."""
    try:
        yield
    except GeneratorExit:
        # The application stopped reading: closing the stream says so.
        raise
    except BaseException:
        # A cancelled task or an interrupted program leaves a call without an answer as well.
        report()
        raise
