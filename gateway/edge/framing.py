"""What a request's head must be like so that everybody reads it, and its end, alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.edge.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.edge.limits import ConnectionLimits

_TARGET: Final = re.compile(rb"/[!-\"$-~]*")  # visible ASCII without "#": no fragment, no spaces
_SINGLE_FIELDS: Final = {
    b"host": re.compile(rb"[!-~]*"),
    b"content-length": re.compile(rb"[0-9]{1,18}"),
    b"transfer-encoding": re.compile(rb"chunked", re.IGNORECASE),
    b"upgrade": re.compile(rb".*", re.DOTALL),
}
_VERSION: Final = "1.1"
_EXPECT: Final = b"expect"
_CONTINUE: Final = b"100-continue"


class RefusedRequestError(Exception):
    """Raised inside a parser callback to make the parser stop; `refusal` is the answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def check_head(
    target: bytes,
    fields: Iterable[tuple[bytes, bytes]],
    version: str,
    limits: ConnectionLimits,
    *,
    upgrades: bool,
) -> tuple[bool, bool]:
    """Return whether the body comes in chunks and whether its sender waits to be told to go on.

    `fields` have lower-case names, `upgrades` is the parser's word.  Raises
    `RefusedRequestError` unless the head is within its size, HTTP/1.1, of origin form (RFC 9112
    section 3.2.1), has one Host (3.2) and at most one way of saying where its body ends (6.3).
    """
    size, counts, odd, waits = len(target), dict.fromkeys(_SINGLE_FIELDS, 0), b"", False
    for name, value in fields:
        size += len(name) + len(value) + 4
        if name in counts:
            counts[name] += 1
            if not _SINGLE_FIELDS[name].fullmatch(value):
                odd = odd or name
        elif name == _EXPECT:
            waits = value.lower() == _CONTINUE
    if size > limits.header_bytes:
        raise RefusedRequestError(too_large())
    if version != _VERSION:
        raise RefusedRequestError(malformed("expected HTTP/1.1"))
    if not _TARGET.fullmatch(target) or target.startswith(b"//"):
        raise RefusedRequestError(
            malformed("the request target must be a plain path in visible ASCII")
        )
    if odd:
        field = odd.decode("ascii")
        raise RefusedRequestError(malformed(f"{field} has a form this gateway does not take"))
    _check_counts(counts, upgrades=upgrades)
    return bool(counts[b"transfer-encoding"]), waits


def _check_counts(counts: dict[bytes, int], *, upgrades: bool) -> None:
    hosts = counts[b"host"]
    if hosts != 1:
        raise RefusedRequestError(malformed(f"expected one host field, saw {hosts}"))
    if counts[b"content-length"] + counts[b"transfer-encoding"] > 1:
        raise RefusedRequestError(malformed("expected one content-length or one transfer-encoding"))
    if counts[b"upgrade"] or upgrades:
        raise RefusedRequestError(malformed("upgrades and tunnels are not offered"))


def malformed(message: str) -> Refusal:
    """The answer for what is not the HTTP/1.1 this gateway takes."""
    return Refusal(status=400, code="malformed_request", message=message)


def too_large() -> Refusal:
    """The answer for a head beyond its bounds."""
    return Refusal(
        status=431,
        code="head_too_large",
        message="the request's head is larger, or has more fields, than this gateway takes",
    )


def too_late(limits: ConnectionLimits) -> Refusal:
    """The answer for a head that does not end."""
    return Refusal(
        status=408,
        code="head_timeout",
        message="the request's head did not arrive in "
        f"{limits.header_seconds:g} seconds; send it in one piece",
    )
