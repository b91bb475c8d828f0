"""Messages of Intel's quote generation service (QGS), the host process that has TD reports signed.

On the stream each message follows its length, four bytes big-endian.  The message itself is
little-endian: major and minor version (16 bits each), type, size of the whole message, error code
(32 bits each), then two sizes and the two byte strings they belong to.  A response of the same
major version is compatible, whatever its minor one (Intel SGX DCAP, qgs_msg_lib).
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

MAJOR, MINOR = 1, 1
GET_QUOTE_REQ, GET_QUOTE_RESP = 0, 1
# The one key kind this version verifies, ECDSA P-256 by Intel's TD quoting enclave.
ECDSA_KEY_ID = bytes.fromhex("e86c046e8cc44d958173fc43c1fa4f3f")
MAX_MESSAGE = 1024 * 1024
LENGTH = struct.Struct(">I")
HEADER = struct.Struct("<HHIII")
SIZES = struct.Struct("<II")
_FIXED = HEADER.size + SIZES.size
_ERRORS = {
    0x12001: "an unexpected error",
    0x12002: "out of memory",
    0x12003: "a wrong parameter",
    0x12004: "an unknown version of the message",
    0x12005: "an unknown type of message",
    0x12006: "a wrong size of the message",
    0x12007: "a wrong error code in the message",
}


def pack_quote_request(report: bytes) -> bytes:
    """Return the message that asks for a quote over a TD report, by whatever key the host has."""
    size = _FIXED + len(report)
    header = HEADER.pack(MAJOR, MINOR, GET_QUOTE_REQ, size, 0)
    return header + SIZES.pack(len(report), 0) + report


def parse_quote_response(message: bytes) -> bytes:
    """Return the quote in a response.

    1. the header: major version, type, its own size
    2. an error code is the service's refusal
    3. both sizes account for every byte, and there is a quote
    4. the key was selected among those asked for: none was named, so none or ECDSA's

    Raises `UnavailableError`: code "qgs_error" for a refusal, "qgs_response" for anything that is
    no response.
    """
    if len(message) < _FIXED:
        raise _bad("a response", f"{_FIXED} bytes or more", f"{len(message)} bytes")
    major, _minor, kind, size, error = HEADER.unpack_from(message)
    id_size, quote_size = SIZES.unpack_from(message, HEADER.size)
    if major != MAJOR:
        raise _bad("version", f"major version {MAJOR}", str(major))
    if kind != GET_QUOTE_RESP:
        raise _bad("type", f"type {GET_QUOTE_RESP}", str(kind))
    if size != len(message):
        raise _bad("size", f"{len(message)} bytes, as the stream says", f"{size} bytes")
    if error:
        raise _refused(error)
    if _FIXED + id_size + quote_size != size or not quote_size:
        observed = f"key id of {id_size} and quote of {quote_size} bytes"
        raise _bad("sizes", f"a key id and a quote in {size - _FIXED} bytes", observed)
    key_id = message[_FIXED : _FIXED + id_size]
    if key_id not in (b"", ECDSA_KEY_ID):
        raise _bad("key id", f"none, or {ECDSA_KEY_ID.hex()}", key_id[:16].hex())
    return message[_FIXED + id_size :]


def exchange(
    connection: socket.socket,
    request: bytes,
    *,
    deadline: float,
    monotonic: Callable[[], float],
) -> bytes:
    """Send a framed message and return the framed answer, all of it before `deadline`.

    Raises OSError (`TimeoutError` after the deadline), and `UnavailableError` for an answer that
    is too long or ends early.
    """
    _until(connection, deadline, monotonic)
    # One send: the service decides by its first read whether a message is framed.
    connection.sendall(LENGTH.pack(len(request)) + request)
    (size,) = LENGTH.unpack(_receive(connection, LENGTH.size, deadline, monotonic))
    if not _FIXED <= size <= MAX_MESSAGE:
        raise _bad("length on the stream", f"{_FIXED} to {MAX_MESSAGE} bytes", f"{size} bytes")
    return _receive(connection, size, deadline, monotonic)


def _receive(
    connection: socket.socket, size: int, deadline: float, monotonic: Callable[[], float]
) -> bytes:
    data = bytearray()
    while len(data) < size:
        _until(connection, deadline, monotonic)
        part = connection.recv(min(size - len(data), 64 * 1024))
        if not part:
            raise UnavailableError(
                "the quote generation service hung up",
                code="qgs_closed",
                expected=f"{size} bytes",
                observed=f"{len(data)} bytes, then the end of the stream",
                hint="it does so when it cannot serve at all: see its log on the host (qgsd)",
            )
        data += part
    return bytes(data)


def _until(connection: socket.socket, deadline: float, monotonic: Callable[[], float]) -> None:
    rest = deadline - monotonic()
    if rest <= 0:
        raise TimeoutError
    connection.settimeout(rest)


def _refused(error: int) -> UnavailableError:
    return UnavailableError(
        "the quote generation service refused",
        code="qgs_error",
        expected="error code 0",
        observed=f"{error:#x}: {_ERRORS.get(error, 'an unknown code')}",
        hint="see its log on the host (qgsd): platform not registered, or no PCK certificate?",
    )


def _bad(what: str, expected: str, observed: str) -> UnavailableError:
    return UnavailableError(
        f"the quote generation service answered with a wrong {what}",
        code="qgs_response",
        expected=expected,
        observed=observed,
        hint="is Intel's QGS (protocol version 1) what listens there?",
    )
