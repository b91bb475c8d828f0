"""A fake engine: answers at once, or as slowly as asked, at the least cost Python allows.

Heads are cut by hand and answers are made of prepared parts; a stream writes each event by itself,
one in a turn of the event loop, as vLLM's server does.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import resource
import sys
import time
from typing import Final

import uvloop

from benchmarks.edge.dialogue import DONE, HOLD, Asked, asked_by, event, plain_answer

_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_COMMON: Final = b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 09:00:00 GMT\r\nserver: uvicorn\r\n"
_PLAIN: Final = _COMMON + b"content-length: %d\r\ncontent-type: application/json\r\n\r\n"
_EVENTS: Final = (
    _COMMON + b"content-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_END: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE)
_UNKNOWN: Final = 1 << 60
_LAST_CHUNK: Final = b"0\r\n\r\n"
_END_BYTES: Final = 4096
_MODELS: Final = b'{"object":"list","data":[{"id":"bench-7b","object":"model","owned_by":"vllm"}]}'


class Engine(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._head = b""
        self._missing = 0
        self._length = 0
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one

    def connection_lost(self, _error: Exception | None) -> None:
        """Stop a stream that nobody reads."""
        self._transport = None
        if self._stream is not None:
            self._stream.stop()

    def data_received(self, data: bytes) -> None:
        """Answer once a request is complete."""
        if not self._missing:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head, data = data[: end + 2], data[end + 4 :]
            length = _LENGTH.search(self._head)
            chunked = None if length else _CHUNKED.search(self._head)
            self._missing = int(length[1]) if length else _UNKNOWN if chunked else 0
        self._body.append(data)
        self._missing -= len(data)
        self._length += len(data)
        if self._missing and not (self._missing > _UNKNOWN // 2 and data.endswith(_LAST_CHUNK)):
            return
        head, body, length_of_body = self._head, _ends(self._body), self._length
        self._head, self._missing, self._length = b"", 0, 0
        self._body.clear()
        self._answer(head, body, length_of_body)

    def _answer(self, head: bytes, body: bytes, length: int) -> None:
        if self._transport is None:
            return
        if head.startswith(b"POST"):
            asked = asked_by(body)
            if asked.events:
                self._stream = _Stream(self._loop, self._transport, asked)
                return
            answer = plain_answer(length)
        else:
            answer = _MODELS if b" /v1/models" in head else b"{}"
        self._transport.write(_PLAIN % len(answer) + answer)


def _ends(pieces: list[bytes]) -> bytes:
    """Return a body, of a long one the two ends: whatever order its members have, the long one
    among them is in the middle.
    """
    if len(pieces) == 1 and len(pieces[0]) <= 2 * _END_BYTES:
        return pieces[0]
    first, last = b"".join(pieces[:2]), b"".join(pieces[-2:])
    return first[:_END_BYTES] + b" " + last[-_END_BYTES:]


class _Stream:
    """Writes one event in each turn of the loop, or one every `delay` seconds from the first on."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, asked: Asked
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._asked = asked
        self._number = 0
        self._began = loop.time()
        self._handle: asyncio.Handle | None = None
        transport.write(_EVENTS)
        self._next()

    def stop(self) -> None:
        """Write nothing more."""
        if self._handle is not None:
            self._handle.cancel()
        self._number = self._asked.events + 1

    def _next(self) -> None:
        asked, number = self._asked, self._number
        if number > asked.events:
            return
        if number == asked.events:
            self._transport.write(_END)
            return
        data = event(number, asked.events, time.monotonic_ns())
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        self._number = number + 1
        if asked.delay:
            if asked.delay * 1000 < HOLD:
                moment = self._began + asked.delay * self._number
                self._handle = self._loop.call_at(moment, self._next)
        else:
            self._handle = self._loop.call_soon(self._next)


async def serve(port: int) -> None:
    """Serve until the parent closes this process's standard input."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Engine(loop), "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.close()


def main() -> None:
    """Run the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
