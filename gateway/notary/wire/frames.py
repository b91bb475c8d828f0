"""Frames of the notary's socket: bytes in, whole frames out, no I/O.

    length u32 ‖ version u8 ‖ kind u8 ‖ request u32 ‖ payload        (integers big-endian)

`length` counts the payload only.  `request` pairs a reply with its question; 0 belongs to what
has no reply.  A reader knows from the first ten bytes whether a frame is too large, of another
version or of a kind it does not take, and refuses it before it stores anything of the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from attestation.errors import MalformedError

VERSION: Final = 3
HEADER: Final = struct.Struct(">IBBI")
MAX_TO_NOTARY: Final = 64 * 1024
"""Largest payload a worker may send: an outcome with all its parents is under 8 KiB."""
MAX_FROM_NOTARY: Final = 16 << 20
"""Largest payload the notary sends: evidence with collateral is the largest of it."""
MAX_REQUEST: Final = (1 << 32) - 1
_HEADER_BYTES: Final = HEADER.size
_unpack = HEADER.unpack_from
_new = tuple.__new__  # a frame by its own name takes twice as long


class Kind(IntEnum):
    """What a frame is; the upper half of the numbers is what the notary says."""

    ANNOUNCE = 1
    SEAL = 2
    COUNT = 3
    FIND = 4
    CHALLENGE = 5
    READ_LOG = 6
    EPOCH = 7
    METRICS = 8
    CANCEL = 9
    HELLO = 128
    STATE = 129
    SEALED = 130
    FOUND = 131
    CHALLENGED = 132
    DATA = 133
    NOTHING = 134
    QUOTED = 135
    FAILED = 136


TO_NOTARY: Final = frozenset(kind for kind in Kind if kind < Kind.HELLO)
FROM_NOTARY: Final = frozenset(kind for kind in Kind if kind >= Kind.HELLO)


class Frame(NamedTuple):
    """One frame as it was read."""

    kind: Kind
    request: int
    payload: bytes

    def __repr__(self) -> str:
        """Say nothing of what it holds."""
        return f"Frame(kind={self.kind!r}, request={self.request})"


def encode_frame(kind: Kind, request: int, payload: bytes) -> bytes:
    """Return the bytes of one frame.  The sender keeps payloads within the reader's bound."""
    return HEADER.pack(len(payload), VERSION, kind, request) + payload


class FrameReader:
    """Cuts what arrives into frames.  `kinds` and `max_payload` bound what the peer may send."""

    __slots__ = ("_held", "_kinds", "_max")

    def __init__(self, kinds: frozenset[Kind], *, max_payload: int) -> None:
        self._kinds = {int(kind): kind for kind in kinds}
        self._max = max_payload
        self._held = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return len(self._held)

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """Take bytes and yield every frame that is whole.

        Raises `MalformedError` at the first frame that must not be read on; what came before it
        was yielded, and the reader must not be used any more.
        """
        held = self._held
        if held:
            held += data
        # Mostly nothing is held: then payloads are cut from the data itself, copied once.
        buffer = held or bytes(data)
        start, size = 0, len(buffer)
        try:
            while size - start >= _HEADER_BYTES:
                length, version, number, request = _unpack(buffer, start)
                kind = self._kinds.get(number)
                if version != VERSION or kind is None or length > self._max:
                    raise self._refusal(length, version, number)
                begin = start + _HEADER_BYTES
                if size - begin < length:
                    break
                start = begin + length
                yield _new(Frame, (kind, request, bytes(buffer[begin:start])))
        finally:
            if buffer is held:
                del held[:start]
            else:
                held += buffer[start:]

    def _refusal(self, length: int, version: int, number: int) -> MalformedError:
        # The version first: a frame of another one may mean anything else.
        if version != VERSION:
            return MalformedError(
                "a frame of the notary's socket has another version",
                code="frame_version",
                expected=f"version {VERSION}",
                observed=f"version {version}",
                hint="gateway and notary must come from one installation",
            )
        if number not in self._kinds:
            return MalformedError(
                "a frame of the notary's socket is of no kind this side takes",
                code="frame_kind",
                expected="one of " + ", ".join(str(known) for known in sorted(self._kinds)),
                observed=str(number),
            )
        return MalformedError(
            "a frame of the notary's socket is too large",
            code="frame_size",
            expected=f"at most {self._max} bytes of payload",
            observed=f"{length} bytes",
        )
