"""A caller made of sockets: sends any bytes, reads until the gateway closes."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

SECONDS = 40
_CODES = re.compile(rb'"code":"([a-z0-9_.]+)"|"message":"([a-z0-9_.]+): ')


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Everything that came back on one connection."""

    data: bytes

    @property
    def status(self) -> int | None:
        """The first answer's status; None if there was none."""
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", self.data)
        return int(found[1]) if found else None

    def header(self, name: str) -> str | None:
        head = self.data.partition(b"\r\n\r\n")[0]
        found = re.search(rb"(?im)^" + name.encode() + rb": (.*?)\r?$", head)
        return found[1].decode() if found else None

    @property
    def codes(self) -> set[str]:
        """Error codes anywhere in the answer, of either API's form."""
        return {(one or two).decode() for one, two in _CODES.findall(self.data)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where a gateway listens, and the host name to ask for in the TLS handshake."""

    port: int
    host_name: str

    @contextlib.contextmanager
    def tcp(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), SECONDS) as sock:
            yield sock

    @contextlib.contextmanager
    def tls(self) -> Iterator[ssl.SSLSocket]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with self.tcp() as raw, context.wrap_socket(raw, server_hostname=self.host_name) as sock:
            yield sock

    def exchange(self, data: bytes, *, encrypted: bool = True) -> Reply:
        """Send `data` and read until the other side closes."""
        with (self.tls if encrypted else self.tcp)() as sock:
            with contextlib.suppress(OSError):
                # A gateway that has refused already may have closed.
                sock.sendall(data)
            return Reply(data=read_all(sock))


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side closes, cleanly or not."""
    data = bytearray()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := sock.recv(65536):
            data += piece
    return bytes(data)


def read_some(sock: socket.socket, enough: bytes) -> bytes:
    """What comes until `enough` has been in it."""
    data = bytearray()
    while enough not in data:
        piece = sock.recv(65536)
        assert piece, "the gateway closed before"
        data += piece
    return bytes(data)
