"""The caller's side of one request, as ASGI gives it: body in, answer out, and whether it left."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from gateway.edge.protocol import CONNECTION_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from gateway.edge.errors import Refusal

    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class CallerGoneError(Exception):
    """The caller closed its connection before the request was over."""


class BrokenBodyError(Exception):
    """The body broke HTTP: nothing more of it can be read, and `refusal` is the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class _Connection(Protocol):
    lost: bool
    conversing: bool
    refused: Refusal | None


class Caller:
    """Reads, answers and watches.  Only `watch` may run beside the other methods."""

    __slots__ = ("_connection", "_left", "_receive", "_send", "_watcher", "head_sent")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None
        self._left = False
        # The server's own word for it is exact; without it the watcher's is a moment later.
        extensions = scope.get("extensions") or {}
        self._connection: _Connection | None = extensions.get(CONNECTION_EXTENSION)
        self.head_sent = False

    @property
    def gone(self) -> bool:
        """Whether what is sent now reaches nobody."""
        return self._left or (self._connection is not None and self._connection.lost)

    def converse(self) -> None:
        """Answer whatever becomes of this request, until `close`: the server is not to."""
        if self._connection is not None:
            self._connection.conversing = True

    async def body_part(self) -> tuple[bytes, bool]:
        """Return the next piece of the request body and whether more follow.

        Raises `CallerGoneError`; `BrokenBodyError` while conversing.
        """
        if self._connection is not None and self._connection.refused is not None:
            raise BrokenBodyError(self._connection.refused)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._left = True
            raise CallerGoneError
        return message.get("body", b""), message.get("more_body", False)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` as soon as the caller leaves.  The body must have been read."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch(on_gone))

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.head_sent = True
        await self._send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def send(self, data: bytes) -> bool:
        """Send a piece of the body, more follows; false if the transport did not take it.

        Waits while the caller reads more slowly than it is sent to.
        """
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        return not self.gone

    async def end(self, data: bytes) -> None:
        """Send the last piece of the body."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def close(self) -> None:
        """Stop watching, and conversing."""
        if self._watcher is not None:
            self._watcher.cancel()
        if self._connection is not None:
            self._connection.conversing = False

    async def _watch(self, on_gone: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        on_gone()
