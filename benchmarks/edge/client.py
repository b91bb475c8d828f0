"""One connection of the load generator: sends a request, follows its answer, judges it.

An answer counts only if it is whole: status 200; a plain one ends where its framing says and names
the length of the body that the engine got; a stream has every event and ends with `[DONE]`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.edge.dialogue import PATH, STAMP, STAMP_DIGITS

_LENGTH: Final = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:\s*close", re.IGNORECASE)
_RECEIVED: Final = re.compile(rb'"prompt_tokens":\s*(\d+)')
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_DONE: Final = b"[DONE]"
_TAIL: Final = 64
_STAMPED: Final = len(STAMP) + STAMP_DIGITS
_SAMPLED: Final = 3
"""One read in four is asked how old its newest event is."""
_REWRITTEN: Final = 0.9
"""Share of a body's length that is left at least when a proxy writes the JSON anew."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of the load since the window began; times in seconds."""

    finished: int = 0
    events: int = 0
    reads: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    latency: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    delay: list[float] = field(default_factory=list)

    def fail(self, why: str) -> None:
        """Count a failure by its kind."""
        self.failures[why] = self.failures.get(why, 0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The bytes of a request, the length of its body, and how many events its answer has."""

    data: bytes
    body_bytes: int
    events: int


def request_of(body: bytes, *, events: int, host: str, key: str) -> Request:
    """Return an HTTP request for a body."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        "User-Agent: bench/1\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return Request(data=head.encode("ascii") + body, body_bytes=len(body), events=events)


def without_chunks(data: bytes) -> bytes:
    """Return what a chunked body, which begins with the end of its head's last line, carries."""
    parts, at = [], 2
    while at < len(data):
        end = data.find(b"\r\n", at)
        size = int(data[at:end].partition(b";")[0], 16)
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts)


class Client(asyncio.Protocol):
    """A connection; `on_end` is called after each answer, with whether another may follow on it."""

    def __init__(self, tally: Tally, on_end: Callable[[Client, bool], None]) -> None:
        self.tally = tally
        self.first_at = 0.0
        self.waiting = False
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._request = Request(data=b"", body_bytes=0, events=0)
        self._began = 0.0
        self._buffer = b""
        self._in_body = False
        self._length = -1
        self._close = False
        self._seen = 0
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where requests go."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one

    def connection_lost(self, _error: Exception | None) -> None:
        """A connection that ends inside an answer has failed it."""
        self._transport = None
        if self.waiting:
            self._finish("connection lost")

    def send(self, request: Request, began: float | None = None) -> None:
        """Send a request; its times count from now, or from `began`."""
        self.waiting, self._in_body = True, False
        self._buffer, self._seen, self.first_at = b"", 0, 0.0
        self._pieces.clear()
        self._request = request
        self._began = time.perf_counter() if began is None else began
        if self._transport is None:
            self._finish("connection lost")
        else:
            self._transport.write(request.data)

    def close(self) -> None:
        """Close the connection; an answer that is still awaited is not judged."""
        self.waiting = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Follow the answer."""
        if not self.waiting:
            self.tally.fail("bytes after the answer")
            return
        if not self._in_body:
            data = self._buffer + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not self._read_head(data[: end + 2]):
                return
            data, self._buffer = data[end + 2 :], b""
        if self._request.events:
            self._events(data)
        else:
            self._plain(data)

    def _read_head(self, head: bytes) -> bool:
        if head[9:12] != b"200":
            self._close = True
            self._finish(f"status {head[9:12].decode('ascii', 'replace')}")
            return False
        length = _LENGTH.search(head)
        self._length = int(length[1]) + 2 if length else -1
        self._close = _CLOSE.search(head) is not None
        self._in_body = True
        return True

    def _plain(self, data: bytes) -> None:
        self._buffer = data = self._buffer + data
        if self._length >= 0:
            if len(data) < self._length:
                return
        elif not data.endswith(_LAST_CHUNK):
            return
        received = _RECEIVED.search(data)
        if received is None or int(received[1]) < self._request.body_bytes * _REWRITTEN:
            self._finish("incomplete body")
        else:
            self._finish(None)

    def _events(self, data: bytes) -> None:
        tally = self.tally
        self._pieces.append(data)
        joined = self._buffer + data
        found = joined.count(STAMP)
        self._seen += found
        tally.events += found
        tally.reads += 1
        if not self.first_at and found:
            self.first_at = time.perf_counter()
            tally.first.append(self.first_at - self._began)
        if not tally.reads & _SAMPLED:
            self._note_delay(data)
        if joined.endswith(_LAST_CHUNK):
            self._finish(self._verdict(joined))
            return
        # What was counted must not be counted again from the tail.
        cut = joined.rfind(STAMP)
        self._buffer = joined[max(len(joined) - _TAIL, cut + len(STAMP) if cut >= 0 else 0) :]

    def _verdict(self, end: bytes) -> str | None:
        done = _DONE in end[-_TAIL:]
        if self._seen == self._request.events and done:
            return None
        # The framing may cut a mark in two; only the stream without it can tell.
        stream = without_chunks(b"".join(self._pieces))
        found = stream.count(STAMP)
        self.tally.events += found - self._seen
        if found != self._request.events:
            return "lost events"
        return None if _DONE in stream[-_TAIL:] else "no [DONE]"

    def _note_delay(self, data: bytes) -> None:
        at = data.rfind(STAMP)
        stamp = data[at + len(STAMP) : at + _STAMPED]
        if at >= 0 and len(stamp) == STAMP_DIGITS:
            self.tally.delay.append((time.monotonic_ns() - int(stamp)) / 1e9)

    def _finish(self, failure: str | None) -> None:
        self.waiting = False
        if failure is None:
            self.tally.finished += 1
            self.tally.latency.append(time.perf_counter() - self._began)
        else:
            self.tally.fail(failure)
            self._close = True
        if self._close and self._transport is not None:
            self._transport.abort()
        self._on_end(self, not self._close and self._transport is not None)
