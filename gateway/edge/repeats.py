"""Heads that come again: what a connection's requests have in common is read once.

Software sends the same head over and over on one connection, with another content-length at most.
Bytes that are the same mean the same, so nothing of such a head is parsed again.  What is known
belongs to one connection and ends with it: nothing is looked up among the heads of others, and
no time tells of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.edge.headers import is_repeatable, read_again, read_head

if TYPE_CHECKING:
    from gateway.access.issuers import Denial
    from gateway.access.principal import Principal
    from gateway.access.store import KeyStore
    from gateway.edge.caller import Caller
    from gateway.edge.headers import RequestHead
    from gateway.edge.ids import Draw

_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=\r\n)", re.IGNORECASE)
_NAME: Final = b"content-length"
_MOST_DIGITS: Final = 18
_MOST_KNOWN: Final = 4096
"""Bytes of a head that is remembered: every open connection may hold one."""


class KnownHead:
    """A head that was taken on this connection, for a `path` with a `query`; `length` is that of
    the body of the last request that had it.

    `principal` and `head` are what was made of it; None is for what does not hold for every
    request with this head, or was not asked yet.
    """

    __slots__ = (
        "_fields", "_place", "_prefix", "_suffix", "head", "length", "path",
        "principal", "query",
    )  # fmt: skip

    def __init__(
        self, path: str, query: bytes, fields: list[tuple[bytes, bytes]], head: re.Match[bytes]
    ) -> None:
        raw = head.string
        self.path = path
        self.query = query
        self.length = 0
        self.principal: Principal | None = None
        self.head: RequestHead | None = None
        self._fields = fields
        self._place = [name for name, _ in fields].index(_NAME)
        self._prefix = raw[: head.start(1)]
        self._suffix = raw[head.end(1) :]

    def cut(self, data: bytes) -> bytes | None:
        """Return the body of a request that is just this head and its whole body, None for
        anything else.
        """
        if not data.startswith(self._prefix):
            return None
        start = len(self._prefix)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        if not data.startswith(self._suffix, end):
            return None
        digits, body = data[start:end], data[end + len(self._suffix) :]
        if not digits.isdigit() or len(body) != int(digits):
            return None
        self.length = len(body)
        return body

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the fields of the last request that had this head."""
        fields = self._fields.copy()
        fields[self._place] = (_NAME, b"%d" % self.length)
        return fields


def known_head(
    data: bytes, path: str, query: bytes, fields: list[tuple[bytes, bytes]], most_bytes: int
) -> KnownHead | None:
    """Return the head that `data` begins with, to be known when it comes again.

    `fields` are those of the last request in `data`.  None if it is not the only one, for a head
    that does not say once, and in digits, how long its body is, for one that is large, and for
    one whose size is so close to `most_bytes` that another length could exceed it.
    """
    head = data[: data.find(_END) + len(_END)]
    found = list(_LENGTH.finditer(head))
    most = min(most_bytes - _MOST_DIGITS - len(fields), _MOST_KNOWN)
    if len(found) != 1 or len(head) > most:
        return None
    if not any(name == _NAME for name, _ in fields):
        # They are those of another request, which came behind the one that begins here.
        return None
    known = KnownHead(path, query, fields, found[0])
    # Once more the other way: what is known has to say of these bytes what the parser said.
    return known if known.cut(data) is not None else None


def identified(keys: KeyStore, caller: Caller) -> Principal | Denial:
    """Return who sends a request, as `keys` has it now, or why it is nobody."""
    known = caller.known
    if known is not None and known.principal is not None:
        found = keys.again(known.principal)
        if found is not None:
            return found
    return keys.identify(caller.headers)


def head_of(caller: Caller, principal: Principal, draw: Draw) -> RequestHead:
    """Read the head of a request of `principal`; what holds for all with that head, once."""
    known = caller.known
    if known is None:
        return read_head(caller.headers, caller.query, draw)
    known.principal = principal
    if known.head is not None:
        return read_again(known.head, known.length, draw)
    head = read_head(caller.headers, caller.query, draw)
    known.head = head if is_repeatable(head, caller.headers) else None
    return head
