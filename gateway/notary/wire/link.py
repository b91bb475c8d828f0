"""The connection to a notary behind a socket: questions and answers in frames, one write a turn.

What is sent in one turn of the event loop leaves in one write, unless somebody needs it to be with
the kernel at once.  When the connection is lost, for whatever reason, everybody who waits gets
`NotaryUnavailable`, and it never comes back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from attestation.errors import MalformedError, UnavailableError
from gateway.errors import NotaryUnavailable
from gateway.notary.wire import messages, replies
from gateway.notary.wire.frames import (
    FROM_NOTARY,
    MAX_FROM_NOTARY,
    MAX_REQUEST,
    Frame,
    FrameReader,
    Kind,
    encode_frame,
)
from gateway.notary.wire.replies import Condition
from gateway.notary.wire.socket import peer_uid

if TYPE_CHECKING:
    from gateway.notary.interface import Boot

LOST: Final = "notary_lost"
CLOSED: Final = "closed"
_CONNECT_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 18
_MAX_BACKLOG: Final = 64 << 20
T = TypeVar("T")


class Link:
    """A connected socket that speaks the notary's protocol.  Use it from one event loop only."""

    def __init__(self, sock: socket.socket, hello: tuple[Boot, Condition]) -> None:
        """Take over a connection whose first frame was read; `connect` makes one."""
        self._sock = sock
        self._boot, self._condition = hello
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(FROM_NOTARY, max_payload=MAX_FROM_NOTARY)
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._last = 0
        self._out: list[bytes] = []
        self._backlog = bytearray()
        self._written = 0
        self._handing: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._counts = [0, 0]
        self._scheduled = False
        self._gone = ""
        self._on_change: Callable[[], None] = _ignore

    @classmethod
    async def connect(
        cls, path: Path, *, uid: int | None = None, seconds: float = _CONNECT_SECONDS
    ) -> Self:
        """Return the notary that serves the socket at `path` as user `uid` (default: ours).

        Raises `UnavailableError` if there is none, or not one that speaks this protocol.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003 - the standard library knows no other way
        try:
            hello, reader = await asyncio.wait_for(_greet(sock, path, uid), seconds)
            notary = cls(sock, hello)
        except (OSError, TimeoutError, MalformedError) as error:
            sock.close()
            raise UnavailableError(
                "the notary cannot be reached",
                code="notary_connect",
                expected=f"a notary of this installation and user at {path}",
                observed=error.message if isinstance(error, MalformedError) else "no answer",
            ) from error
        except BaseException:
            # A cancelled caller as well must not leave the socket open.
            sock.close()
            raise
        notary._reader = reader
        notary._loop.add_reader(sock, notary._readable)
        notary._take(b"")  # what came in one piece with the first frame
        return notary

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` whenever `healthy` or `reason` may have changed."""
        self._on_change = on_change

    # -- asking ----------------------------------------------------------------------------

    async def _ask(self, kind: Kind, payload: bytes, wanted: tuple[Kind, ...]) -> Frame:
        self._require_connected()
        request = self._next_request()
        waiter: asyncio.Future[Frame] = self._loop.create_future()
        self._waiting[request] = waiter
        self._queue(kind, request, payload)
        try:
            frame = await waiter
        except asyncio.CancelledError:
            # A seal goes on: its index may be taken, and its receipt can still be fetched.
            if kind is not Kind.SEAL and not self._gone:
                self._queue(Kind.CANCEL, request, b"")
            raise
        finally:
            self._waiting.pop(request, None)
        if frame.kind is Kind.FAILED:
            raise self._read(replies.decode_failure, frame)
        if frame.kind not in wanted:
            raise self._broken()
        return frame

    def _read(self, decode: Callable[[bytes], T], frame: Frame) -> T:
        try:
            return decode(frame.payload)
        except MalformedError:
            raise self._broken() from None

    def _broken(self) -> NotaryUnavailable:
        self._lose(LOST)
        return NotaryUnavailable("the notary sent what its protocol does not know")

    def _next_request(self) -> int:
        while True:
            self._last = self._last % MAX_REQUEST + 1
            if self._last not in self._waiting:
                return self._last

    def _require_connected(self) -> None:
        if self._gone:
            raise NotaryUnavailable(f"the notary cannot be reached: {self._gone}")

    # -- sending ---------------------------------------------------------------------------

    def _count(self, which: int, count: int) -> None:
        if self._gone:
            return
        self._counts[which] += count
        self._schedule()

    def _queue(self, kind: Kind, request: int, payload: bytes) -> None:
        self._out.append(encode_frame(kind, request, payload))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_later)

    def _flush_later(self) -> None:
        self._scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._gone:
            return
        if any(self._counts):
            said = [min(count, messages.MAX_COUNT) for count in self._counts]
            self._counts = [count - now for count, now in zip(self._counts, said, strict=True)]
            self._out.append(encode_frame(Kind.COUNT, 0, messages.encode_count(*said)))
            if any(self._counts):
                self._schedule()
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        if self._backlog:
            self._backlog += data
        else:
            self._backlog += data[self._write(data) :]
            if self._backlog and not self._gone:
                self._loop.add_writer(self._sock, self._writable)
        if len(self._backlog) > _MAX_BACKLOG:
            self._lose(LOST)

    def _writable(self) -> None:
        del self._backlog[: self._write(self._backlog)]
        while self._handing and self._handing[0][0] <= self._written:
            _release(self._handing.popleft()[1])
        if not self._backlog and not self._gone:
            self._loop.remove_writer(self._sock)

    def _write(self, data: bytes | bytearray) -> int:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._lose(LOST)
            return len(data)
        self._written += sent
        return sent

    # -- receiving -------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:
            self._lose(LOST)

    def _take(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._act(frame)
        except MalformedError:
            self._lose(LOST)

    def _act(self, frame: Frame) -> None:
        if frame.request:
            waiter = self._waiting.get(frame.request)
            if waiter is not None and not waiter.done():
                waiter.set_result(frame)
        elif frame.kind is Kind.STATE:
            self._condition = replies.decode_condition(frame.payload)
            self._on_change()
        elif frame.kind is Kind.HELLO:
            self._boot, self._condition = replies.decode_renewal(frame.payload, self._boot)
            self._on_change()
        elif frame.kind is Kind.FAILED:
            # The notary took offence at something sent here and hangs up.
            self._lose(LOST)

    def _lose(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = reason
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for waiter in self._waiting.values():
            _fail(waiter)
        for _, handing in self._handing:
            _fail(handing)
        self._on_change()


async def _greet(
    sock: socket.socket, path: Path, uid: int | None
) -> tuple[tuple[Boot, Condition], FrameReader]:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, os.fspath(path))
    served_by = peer_uid(sock)
    if served_by != (os.geteuid() if uid is None else uid):
        raise MalformedError("the notary's socket is served by another user", code="peer")
    reader = FrameReader(FROM_NOTARY, max_payload=MAX_FROM_NOTARY)
    while True:
        data = await loop.sock_recv(sock, _CHUNK)
        if not data:
            raise ConnectionResetError
        for frame in reader.feed(data):
            if frame.kind is not Kind.HELLO:
                raise MalformedError("the notary did not introduce itself", code="hello")
            return replies.decode_hello(frame.payload), reader


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _fail(waiter: asyncio.Future[T]) -> None:
    if not waiter.done():
        waiter.set_exception(NotaryUnavailable("the connection to the notary is gone"))


def _ignore() -> None:
    """Tell nobody."""
