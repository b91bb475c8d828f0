"""The few lines of HTTP/1.1 both engines need: one connection, requests in turn, raw access.

Written on asyncio streams instead of a framework because the scripted engine must be able to
break every rule (a wrong length, a reset, half a chunk) and must keep the exact bytes it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

_DIGITS = re.compile(r"[0-9]{1,16}")
_HEX_DIGITS = re.compile(r"[0-9A-Fa-f]{1,16}")
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024


class WireError(Exception):
    """The peer sent something that is not one HTTP/1.1 request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One request as it arrived: `head` and `body` are the exact bytes, transfer-coding removed."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)


class Wire:
    """The answering half of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Exactly these bytes, handed to the kernel before this returns where it takes them."""
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int, *headers: tuple[str, str]) -> None:
        """A response head with vLLM's usual headers."""
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "server: uvicorn"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.write("\r\n".join([*lines, "", ""]).encode("ascii"))

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; the empty chunk is the last one."""
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def answer(self, status: int, content_type: str, body: bytes) -> None:
        """A complete answer with a Content-Length."""
        await self.head(status, ("content-length", str(len(body))), ("content-type", content_type))
        await self.write(body)

    async def hang(self) -> None:
        """Say nothing more until the peer closes."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with a TCP reset (on a Unix socket: a plain close)."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Close after what was written has left; the next request is not read."""
        self._writer.close()

    @property
    def closing(self) -> bool:
        """Whether this side has closed the connection."""
        return self._writer.is_closing()


Handler = Callable[[EngineRequest, Wire], Awaitable[None]]


class EngineServer:
    """Listens on loopback or a Unix socket and gives every request to `handler`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self, *, port: int = 0, uds: str | None = None) -> str:
        """Listen; returns the address: `http://127.0.0.1:PORT` or `unix:PATH`."""
        if uds is not None:
            self._server = await asyncio.start_unix_server(self._accept, uds, limit=MAX_HEAD_BYTES)
            self.address = f"unix:{uds}"
            return self.address
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", port, limit=MAX_HEAD_BYTES
        )
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self.address

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - asyncio always runs a callback inside a task
            return
        self._open.add(task)
        try:
            # A cancelled connection ends quietly: only `close` cancels it.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await self._serve(reader, Wire(reader, writer))
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, wire: Wire) -> None:
        while not wire.closing:
            try:
                request = await read_request(reader)
            except WireError as error:
                text = f'{{"detail":"{error}"}}'
                await wire.answer(400, "application/json", text.encode())
                return
            if request is None:
                return
            await self._handler(request, wire)


async def read_request(reader: asyncio.StreamReader) -> EngineRequest | None:
    """The next request, or None at the end of the connection; WireError for anything else."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the connection ended inside a request head") from None
        return None
    except asyncio.LimitOverrunError:
        raise WireError("request head too long") from None
    start, *lines = head.decode("latin-1").split("\r\n")[:-2]
    words = start.split(" ")
    if len(words) != 3:
        raise WireError("bad request line")
    headers = tuple(_header(line) for line in lines)
    body = await _read_body(reader, dict(headers))
    return EngineRequest(method=words[0], target=words[1], headers=headers, head=head, body=body)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise WireError("bad header line")
    return name.lower(), value.strip()


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    try:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await _read_chunks(reader)
        length = _number(headers.get("content-length", "0"), 10)
        if length > MAX_BODY_BYTES:
            raise WireError("request body too long")
        return await reader.readexactly(length)
    except (ValueError, asyncio.IncompleteReadError):
        raise WireError("bad request body") from None


def _number(digits: str, base: int) -> int:
    # What `int` takes beside digits (signs, underscores, other alphabets) HTTP has no place for.
    if not (_HEX_DIGITS if base == 16 else _DIGITS).fullmatch(digits):
        raise WireError("bad number in a request")
    return int(digits, base)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := _number((await reader.readline()).split(b";")[0].strip().decode("latin-1"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if len(body) > MAX_BODY_BYTES:
            raise WireError("request body too long")
    while await reader.readline() not in {b"\r\n", b"\n", b""}:
        pass
    return bytes(body)
