"""Transports for `httpx2` clients: hand one to `openai.OpenAI(http_client=…)` and nothing else
changes for the application.

    client = httpx2.Client(transport=ReceiptTransport(recorder=recorder))
    openai.OpenAI(base_url=…, api_key=…, http_client=client)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from gateway.client import flow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gateway.client.recorder import Recorder, Tap


class ReceiptTransport(httpx2.BaseTransport):
    """Sends through `wrapped` and records through `recorder`; verification errors are raised
    from the request, or from reading its stream.
    """

    def __init__(self, wrapped: httpx2.BaseTransport | None = None, *, recorder: Recorder) -> None:
        self._wrapped = wrapped if wrapped is not None else httpx2.HTTPTransport(trust_env=False)
        self._recorder = recorder

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; see `flow.send`."""
        return flow.send(request, self._wrapped.handle_request, self._recorder, _rebuilt)

    def close(self) -> None:
        """Close the wrapped transport."""
        self._wrapped.close()


class AsyncReceiptTransport(httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`."""

    def __init__(
        self, wrapped: httpx2.AsyncBaseTransport | None = None, *, recorder: Recorder
    ) -> None:
        self._wrapped = (
            wrapped if wrapped is not None else httpx2.AsyncHTTPTransport(trust_env=False)
        )
        self._recorder = recorder

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; see `flow.send`."""
        return await flow.send_async(
            request, self._wrapped.handle_async_request, self._recorder, _rebuilt_async
        )

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._wrapped.aclose()


class _TappedStream(httpx2.SyncByteStream):
    def __init__(self, inner: flow.SyncStream, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __iter__(self) -> Iterator[bytes]:
        return flow.pass_on(self._inner, self._tap)

    def close(self) -> None:
        flow.close(self._inner, self._tap)


class _TappedAsyncStream(httpx2.AsyncByteStream):
    def __init__(self, inner: flow.AsyncStream, tap: Tap) -> None:
        self._inner = inner
        self._tap = tap

    def __aiter__(self) -> AsyncIterator[bytes]:
        return flow.pass_on_async(self._inner, self._tap)

    async def aclose(self) -> None:
        await flow.close_async(self._inner, self._tap)


def _rebuilt(response: httpx2.Response, tap: Tap) -> httpx2.Response:
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=_TappedStream(flow.sync_stream(response.stream), tap),
        extensions=response.extensions,
    )


def _rebuilt_async(response: httpx2.Response, tap: Tap) -> httpx2.Response:
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=_TappedAsyncStream(flow.async_stream(response.stream), tap),
        extensions=response.extensions,
    )
