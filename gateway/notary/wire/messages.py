"""What workers ask the notary: encoded by the one side, read by the other as from a stranger.

A worker parses what callers send, so it is the likelier one to be taken over.  Nothing it says
is believed further than its form.  What it says of requests has modules of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.receipt import text
from gateway.notary.wire import values

MAX_WAIT_SECONDS: Final = 30
MAX_COUNT: Final = 1_000_000
NONCE_BYTES: Final = 32
_LOG_PATH: Final = re.compile(r"[a-z0-9./]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A question for a receipt by its jti; `wait_milliseconds` is at most 30,000."""

    jti: str
    sub: Digest
    wait_milliseconds: int


def encode_count(unauthenticated: int, unreceipted: int) -> bytes:
    """Return the payload of COUNT."""
    return values.encode((unauthenticated, unreceipted))


def decode_count(payload: bytes) -> tuple[int, int]:
    """Return how many requests were unauthenticated and how many refusals got no receipt."""
    unauthenticated, unreceipted = values.decode(payload, 2)
    return values.integer(unauthenticated, 0, MAX_COUNT), values.integer(unreceipted, 0, MAX_COUNT)


def encode_search(search: Search) -> bytes:
    """Return the payload of FIND."""
    return values.encode((search.jti, search.sub.hex, search.wait_milliseconds))


def decode_search(payload: bytes) -> Search:
    """Return what FIND asks for, or raise `MalformedError`."""
    jti, sub, wait = values.decode(payload, 3)
    return Search(
        jti=values.text_of(jti, text.RECEIPT_ID),
        sub=values.digest(sub),
        wait_milliseconds=values.integer(wait, 0, MAX_WAIT_SECONDS * 1000),
    )


def encode_nonce(nonce: bytes) -> bytes:
    """Return the payload of CHALLENGE."""
    return values.encode((base64url.encode(nonce),))


def decode_nonce(payload: bytes) -> bytes:
    """Return the nonce of a CHALLENGE, or raise `MalformedError`."""
    (nonce,) = values.decode(payload, 1)
    return values.binary(nonce, length=NONCE_BYTES)


def encode_path(path: str) -> bytes:
    """Return the payload of READ_LOG."""
    return values.encode((path,))


def decode_path(payload: bytes) -> str:
    """Return the resource of the log that READ_LOG names, or raise `MalformedError`."""
    (path,) = values.decode(payload, 1)
    return values.text_of(path, _LOG_PATH)


def is_log_path(path: str) -> bool:
    """Whether the notary would take this text for a resource of the log at all."""
    return _LOG_PATH.fullmatch(path) is not None


def encode_epoch_number(number: int | None) -> bytes:
    """Return the payload of EPOCH."""
    return values.encode((number,))


def decode_epoch_number(payload: bytes) -> int | None:
    """Return the epoch asked for, None for the newest, or raise `MalformedError`."""
    (number,) = values.decode(payload, 1)
    return values.optional_integer(number)
