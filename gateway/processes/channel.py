"""The channel between the supervisor and one process it started: a socket pair that both inherit.

    length u32 (big-endian) ‖ JSON object

What must not stand in arguments, environment or files (the TLS key) goes through it, and its end
is how either side learns that the other is gone: the kernel closes it whatever killed the owner.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Final, Self

from attestation.errors import (
    AttestationError,
    EvidenceError,
    MalformedError,
    PolicyError,
    UnavailableError,
    UsageError,
)

_LENGTH: Final = struct.Struct(">I")
_MAX_MESSAGE: Final = 4 << 20
_CLOSE_SECONDS: Final = 10.0
_ERRORS: Final[dict[str, type[AttestationError]]] = {
    kind.__name__: kind
    for kind in (MalformedError, EvidenceError, PolicyError, UnavailableError, UsageError)
}

Message = dict[str, Any]


class Channel:
    """One end.  Belongs to the event loop that opened it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Return this end of a connected pair and take the socket over."""
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer)

    def send(self, kind: str, **members: object) -> None:
        """Send a message; if the other side is gone, `receive` says so."""
        if self._writer.is_closing():
            return
        data = json.dumps({"kind": kind, **members}).encode()
        self._writer.write(_LENGTH.pack(len(data)) + data)

    async def receive(self) -> Message | None:
        """Return the next message, None once the other side is gone."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > _MAX_MESSAGE:
                return None
            message = json.loads(await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, ValueError, RecursionError):
            return None
        return message if isinstance(message, dict) else None

    async def close(self) -> None:
        """Send what waits, then end it; who takes nothing for some seconds gets no more."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), _CLOSE_SECONDS)
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return  # the other side was gone already


def error_to_json(error: AttestationError) -> Message:
    """Return a refusal as the supervisor needs it to raise the same one."""
    return {
        "error": type(error).__name__,
        "message": error.message,
        "code": error.code,
        "expected": error.expected,
        "observed": error.observed,
        "hint": error.hint,
    }


def error_from_json(message: Message) -> AttestationError:
    """Return the refusal that a process reported."""
    kind = _ERRORS.get(str(message.get("error")), UnavailableError)
    parts = {name: str(message.get(name, "")) for name in ("code", "expected", "observed", "hint")}
    return kind(str(message.get("message", "")), **parts)


def says_ready(message: Message | None) -> bool:
    """Whether a process that was waited for serves; raises the refusal that it reports instead."""
    if message is not None and message["kind"] == "failed":
        raise error_from_json(message)
    return message is not None and message["kind"] == "ready"
