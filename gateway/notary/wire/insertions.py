"""The bytes that a rewrite inserted, as an outcome says them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from attestation.encoding import base64url
from gateway.notary.wire.values import refused

Insertions = Callable[[str], bytes]

MAX_INSERTED_BYTES: Final = 512
_REMEMBERED: Final = 1024


def inserted_bytes(said: str) -> bytes:
    """Return the bytes that this base64url text is, or raise `MalformedError`."""
    piece = base64url.decode(said, what="what a rewrite inserted")
    if len(piece) > MAX_INSERTED_BYTES:
        raise refused(f"at most {MAX_INSERTED_BYTES} inserted bytes")
    return piece


def insertions() -> Insertions:
    """Return an `inserted_bytes` that remembers the last thousand.

    What a caller's key has inserted is the same in every request, and reading it again costs a
    third of reading an outcome (3.7 microseconds instead of 0.3).  It is made of callers' keys:
    so it belongs to one connection, and is gone with it.
    """
    return lru_cache(maxsize=_REMEMBERED)(inserted_bytes)
