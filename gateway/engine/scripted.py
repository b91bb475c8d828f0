"""An engine that says exactly what it was told to, and breaks off exactly where it was told to.

Used by the conformance runner and by tests.  Every request is kept with its exact bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.engine.wire import EngineRequest, EngineServer, Wire

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"
# How much longer than the body a lying Content-Length says it is.
_SHORT_BY = 1000


class Close(StrEnum):
    """How the engine ends its answer."""

    CLEAN = "clean"  # chunked, with the last chunk
    LENGTH = "length"  # Content-Length, exact
    RST = "rst"  # chunked, with the last chunk, then a TCP reset
    SHORT = "short"  # a Content-Length longer than the body, then FIN
    NO_LAST_CHUNK = "no-last-chunk"  # chunked, FIN without the last chunk
    HANG = "hang"  # the body, then silence until the peer leaves
    MUTE = "mute"  # silence instead of a head, until the peer leaves
    DROP = "drop"  # FIN instead of a head
    RAW = "raw"  # the writes are everything, head included; then FIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One answer: the body in exactly these writes (a chunk each where the body is chunked)."""

    writes: tuple[bytes, ...] = ()
    close: Close = Close.CLEAN
    status: int = 200
    content_type: str = EVENT_STREAM
    headers: tuple[tuple[str, str], ...] = ()


class ScriptedEngine:
    """Answers every request with `play(request)`; `requests` keeps what arrived, in order."""

    def __init__(self, play: Script | Callable[[EngineRequest], Script]) -> None:
        self._play = play
        self._server = EngineServer(self._handle)
        self.requests: list[EngineRequest] = []
        self.left = asyncio.Event()  # set when a peer left a hanging answer

    @property
    def address(self) -> str:
        """`http://127.0.0.1:PORT` or `unix:PATH`, once started."""
        return self._server.address

    def set(self, play: Script | Callable[[EngineRequest], Script]) -> None:
        """What later requests get."""
        self._play = play

    async def start(self, *, port: int = 0, uds: str | None = None) -> str:
        """Listen; returns the address."""
        return await self._server.start(port=port, uds=uds)

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        await self._server.close()

    async def _handle(self, request: EngineRequest, wire: Wire) -> None:
        self.requests.append(request)
        script = self._play if isinstance(self._play, Script) else self._play(request)
        await _perform(script, wire)
        if script.close in {Close.HANG, Close.MUTE}:
            await wire.hang()
            self.left.set()
        if script.close is Close.RST:
            wire.reset()
        elif script.close not in {Close.CLEAN, Close.LENGTH}:
            wire.close()


async def _perform(script: Script, wire: Wire) -> None:
    if script.close in {Close.MUTE, Close.DROP}:
        return
    if script.close is not Close.RAW:
        await wire.head(
            script.status,
            ("content-type", script.content_type),
            *script.headers,
            _framing(script),
        )
    chunked = _framing(script)[0] == "transfer-encoding" and script.close is not Close.RAW
    for data in script.writes:
        await (wire.chunk(data) if chunked and data else wire.write(data))
        # One turn of the loop a write, so that a reader in this loop sees each on its own.
        await asyncio.sleep(0)
    if script.close in {Close.CLEAN, Close.RST}:
        await wire.chunk(b"")


def _framing(script: Script) -> tuple[str, str]:
    length = sum(len(data) for data in script.writes)
    if script.close is Close.LENGTH:
        return "content-length", str(length)
    if script.close is Close.SHORT:
        return "content-length", str(length + _SHORT_BY)
    return "transfer-encoding", "chunked"
