"""Two live listeners of the product, and one client that says exactly the bytes it is given.

`gateway` is the whole product: nothing a case can say is authenticated, so no engine is asked.
`forwarder` is the product's listener and its way to the engine with the routes taken out: every
message that the listener lets through becomes one engine request, so that they can be counted.
"""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.cli.local.gateway import LocalGateway, LocalPlan
from gateway.cli.local.loop import LoopThread
from gateway.edge.server import EdgeServer, Listen, bind
from gateway.engine.scripted import JSON, Close, Script, ScriptedEngine
from gateway.errors import UpstreamError
from gateway.upstream import Upstream, parse_engine_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import ExitStack

    Message = dict[str, Any]
    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

GATEWAY: Final = "gateway"
FORWARDER: Final = "forwarder"
SECONDS: Final = 25.0
"""No answer for so long is a hang: the listener gives heads 10 seconds."""

_PATH = "/v1/chat/completions"
_CONTINUE, _SWITCHING = 100, 101
_ANSWER = Script(writes=(b"{}",), close=Close.LENGTH, content_type=JSON)


class Forwarder:
    """An application that asks the engine once for each message and answers 200, else 502."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def settled(self) -> None:
        """Return once no message is under way."""
        await self._idle.wait()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one message (ASGI 3)."""
        self._running += 1
        self._idle.clear()
        try:
            body = await _whole_body(receive)
            if body is not None:
                await self._forward(body, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _forward(self, body: bytes, send: Send) -> None:
        status = 200
        try:
            _, call = await self._upstream.open(path=_PATH, body=body, request_id="conformance")
            while await call.read():
                pass
        except UpstreamError:
            status = 502
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, None if the client left inside it."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: `code` is the error's code where its body is one of our errors.

    `bodiless`: it was asked for with HEAD, so there is no body that could say a code.
    """

    status: int
    code: str | None
    bodiless: bool = False

    def __str__(self) -> str:
        return f"{self.status} {self.code}" if self.code else str(self.status)


class Listeners:
    """Both listeners and their engine; started on first use, for all cases of a run."""

    def __init__(self, resources: ExitStack) -> None:
        self._resources = resources
        self._loop: LoopThread | None = None
        self._engine: ScriptedEngine | None = None
        self._forwarder: Forwarder | None = None
        self._addresses: dict[str, tuple[str, int]] = {}

    def address(self, listener: str) -> tuple[str, int]:
        """Where `GATEWAY` or `FORWARDER` listens."""
        if not self._addresses:
            self._start()
        return self._addresses[listener]

    def forget(self) -> None:
        """Forget what the engine got so far."""
        if self._engine is not None:
            self._engine.requests.clear()

    def engine_bodies(self) -> list[bytes]:
        """The bodies the engine got, once nothing is under way any more."""
        if self._engine is None or self._loop is None or self._forwarder is None:
            return []
        self._loop.call(self._forwarder.settled())
        return [request.body for request in self._engine.requests]

    def _start(self) -> None:
        self._loop = loop = self._resources.enter_context(LoopThread())
        self._engine = engine = ScriptedEngine(_ANSWER)
        engine_address = loop.call(engine.start())
        self._resources.callback(lambda: loop.call(engine.close()))
        gateway = self._resources.enter_context(LocalGateway(LocalPlan(upstream=engine_address)))
        host, _, port = gateway.url.removeprefix("http://").rpartition(":")
        server = loop.call(self._forward_to(engine_address))
        self._resources.callback(lambda: loop.call(server.stop()))
        own = server.address
        self._addresses = {GATEWAY: (host, int(port)), FORWARDER: (own[0], int(own[1]))}

    async def _forward_to(self, engine_address: str) -> EdgeServer:
        self._forwarder = Forwarder(Upstream(parse_engine_url(engine_address)))
        server = EdgeServer(self._forwarder, bind(Listen(), None), drain_seconds=1.0)
        await server.start()
        return server


class HangError(Exception):
    """Nothing came for too long."""


class RawClient:
    """One connection.  `answer` returns None once the other side has closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, SECONDS)
        self._read = bytearray()
        self._ended = False

    def say(self, data: bytes) -> None:
        """Send; a peer that has closed already is no error: its answer is still to be read."""
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise HangError from None
        except OSError:
            return

    def finish_saying(self) -> None:
        """Close the sending side only."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def answer(self, *, to_head: bool = False) -> Answer | None:
        """Read one final answer; `to_head`: to a HEAD request, which has no body."""
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return None
        lines = bytes(self._read[:end]).decode("latin-1").split("\r\n")
        del self._read[: end + 4]
        status = int(lines[0].split(" ")[1])
        if status == _CONTINUE:
            return self.answer(to_head=to_head)
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        body = b"" if to_head or status == _SWITCHING else self._body(fields)
        return Answer(status=status, code=_code(body), bodiless=to_head)

    def _body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding") == "chunked":
            whole = b""
            while piece := self._chunk():
                whole += piece
            return whole
        return self._exactly(int(fields.get("content-length", "0")))

    def _chunk(self) -> bytes:
        while b"\r\n" not in self._read:
            if not self._more():
                return b""
        line, _, _ = bytes(self._read).partition(b"\r\n")
        del self._read[: len(line) + 2]
        return self._exactly(int(line, 16) + 2)[:-2]

    def _exactly(self, count: int) -> bytes:
        while len(self._read) < count and self._more():
            pass
        data = bytes(self._read[:count])
        del self._read[:count]
        return data

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise HangError from None
        except OSError:
            data = b""
        self._read += data
        self._ended = not data
        return bool(data)

    @property
    def excess(self) -> bool:
        """Whether bytes are left over that belong to no answer."""
        return bool(self._read)


def _code(body: bytes) -> str | None:
    try:
        document: Any = json.loads(body)
        code = document["error"]["code"]
    except (ValueError, LookupError, TypeError):
        return None
    return code if isinstance(code, str) else None
