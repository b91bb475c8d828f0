"""Intel's quote generation service in small: its framing and messages over a real socket.

Written from qgs_msg_lib and qgs_server of Intel's DCAP, apart from the client in `gateway`: one
request and one response a connection, lengths big-endian on the stream, messages little-endian.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def response(
    quote: bytes,
    *,
    key_id: bytes = b"",
    major: int = 1,
    minor: int = 1,
    kind: int = 1,
    error: int = 0,
    size: int | None = None,
    quote_size: int | None = None,
) -> bytes:
    """A GET_QUOTE_RESP as the service packs it; any field can be wrong."""
    total = 24 + len(key_id) + len(quote)
    return (
        struct.pack("<HHIII", major, minor, kind, total if size is None else size, error)
        + struct.pack("<II", len(key_id), len(quote) if quote_size is None else quote_size)
        + key_id
        + quote
    )


def refused(error: int) -> bytes:
    """What qgs_msg_gen_error_resp makes."""
    return response(b"", error=error)


def framed(message: bytes) -> bytes:
    """A message as it is on the stream."""
    return struct.pack(">I", len(message)) + message


def report_of(message: bytes) -> bytes:
    """The TD report in a request, or an assertion that the service would have refused it."""
    major, minor, kind, size, error = struct.unpack_from("<HHIII", message)
    report_size, ids_size = struct.unpack_from("<II", message, 16)
    assert (major, minor, kind, error) == (1, 1, 0, 0)
    assert size == len(message) == 24 + report_size + ids_size
    assert (report_size, ids_size) == (1024, 0)
    return message[24:]


@dataclass
class QgsServer:
    """Answers each connection with what `answer` makes of the TD report, framed by itself.

    An `answer` of no bytes hangs up without one; None keeps the client waiting.  `piece` is how
    many bytes go into the stream at once.
    """

    answer: Callable[[bytes], bytes | None]
    piece: int = 1 << 20
    requests: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _held: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Serve until the listener is shut down."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                self._serve_one(connection)
            except (AssertionError, OSError, struct.error) as error:
                self.failures.append(repr(error))
                connection.close()

    def _serve_one(self, connection: socket.socket) -> None:
        (size,) = struct.unpack(">I", _receive(connection, 4))
        report = report_of(_receive(connection, size))
        self.requests.append(report)
        answer = self.answer(report)
        if answer is None:
            self._held.append(connection)
            return
        with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(answer), self.piece):
                connection.sendall(answer[start : start + self.piece])

    def let_go(self) -> None:
        """Hang up on everyone who was kept waiting."""
        for connection in self._held:
            connection.close()


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "the client hung up"
        data += part
    return data


@contextmanager
def listening(
    server: QgsServer, address: Any, family: socket.AddressFamily = socket.AF_UNIX
) -> Iterator[socket.socket]:
    """Serve at `address`; at the end nothing may have gone wrong in the server."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    with listener:
        listener.bind(str(address) if isinstance(address, Path) else address)
        listener.listen()
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            server.let_go()
    assert not server.failures
