"""The tenant's cache salt: what keeps one caller from timing another's prompts.

Engines that cache prompt prefixes answer faster where the prefix is known, and so tell everyone
what others have asked.  With a salt in the request the engine keeps caches apart.  The gateway
derives it from the authenticated caller and splices it into the body, so that neither a caller
who names another's salt nor one who names none reaches another's cache.
"""

from __future__ import annotations

import hmac
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from attestation.encoding import base64url
from attestation.encoding.making import maker_of
from attestation.receipt.claims import Splice
from attestation.receipt.plan import ForwardPlan
from gateway.edge import routes

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.receipt.claims import ReceiptClaims
    from gateway.edge.admission import Admission

SaltMode: TypeAlias = Literal["tenant", "task", "request", "off"]
"""What shares cached prefixes: a tenant's requests, one task's, none; off: the engine decides."""

MEMBER: Final = "cache_salt"
"""The request's member, and the code of its rewrite in receipts."""

SALTED: Final = frozenset(
    (routes.CHAT, routes.COMPLETIONS, routes.RESPONSES, routes.MESSAGES, routes.EMBEDDINGS)
)
"""Routes whose requests have the member; counting and tokenizing touch no cache."""

_CONTEXT: Final = b"attested-gateway/cache-salt/v1"
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()
_REMEMBERED: Final = 4096
_plan = maker_of(ForwardPlan)


def cache_salt(
    key: bytes, mode: SaltMode, sub: Digest, *, scope: str = "", caller: str = ""
) -> str:
    """Return the salt as base64url (43 characters).

    `key` is the boot's; `scope` the task's id in mode "task", the receipt id in mode "request",
    else empty; `caller` the salt that the caller sent, empty if none.  Each part is preceded by
    its length in bytes, so that no two lists of parts make the same salt (docs/spec/admission.md).
    """
    parts = (_CONTEXT, mode.encode("ascii"), sub.value, scope.encode(), caller.encode())
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return base64url.encode(hmac.digest(key, message, "sha256"))


def value_range(body: bytes, name: str) -> tuple[int, int]:
    r"""Return where the value of the top-level member `name` begins and ends, in bytes.

    `body` is an object that the strict parser took and that has the member: every name once,
    and no other reading.  The names are decoded, so `"cache\u005fsalt"` is found as well.
    """
    text = body.decode("utf-8")
    at = _skip(text, 0)
    while True:
        # One past "{" the first time, one past "," after that.
        found, at = _DECODER.raw_decode(text, _skip(text, at + 1))
        start = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        if found == name:
            return len(text[:start].encode()), len(text[:end].encode())
        at = _skip(text, end)


class BodyRewriter:
    """Plans what goes to the engine: the received body, with the salt where the route has one.

    `salted` are the routes with a salt.  Only splices are made, never another spelling of the
    document: one insertion after the opening brace, or one in the place of the value that the
    caller gave.
    """

    __slots__ = ("_key", "_mode", "_tenants", "salted")

    def __init__(self, mode: SaltMode, key: bytes) -> None:
        self._mode: SaltMode = mode
        self._key = key
        self._tenants: dict[bytes, bytes] = {}
        self.salted = frozenset[str]() if mode == "off" else SALTED

    def __call__(
        self, path: str, body: bytes, admission: Admission, sub: Digest, *, task: str, jti: str
    ) -> ForwardPlan:
        """Return the plan for a body that was admitted for the caller `sub`."""
        if path not in self.salted:
            return ForwardPlan(body=body)
        if admission.names_salt:
            start, end = value_range(body, MEMBER)
            salt = self._salt(sub, task, jti, admission.caller_salt)
            return _spliced(body, start, end, b'"%b"' % salt)
        member = self._member(sub, task, jti)
        if admission.empty:
            member = member[:-1]
        at = body.index(b"{") + 1
        return _spliced(body, at, at, member)

    def again(self, claims: ReceiptClaims) -> tuple[bytes, ...]:
        """Return what was inserted into the request of a receipt of this boot, as the receipt's
        openings list it; nothing where no salt was set, or where it was made with one that the
        caller sent, which nobody keeps.
        """
        splices = claims.request.splices
        if not self.salted or len(splices) != 1 or splices[0].deleted:
            return ()
        member = self._member(claims.subject, claims.lineage.txn, claims.jti)
        return (member[: splices[0].inserted],)

    def _member(self, sub: Digest, task: str, jti: str) -> bytes:
        """The member with a comma after it; a tenant's is the same for a whole boot."""
        if self._mode != "tenant":
            return b'"cache_salt":"%b",' % self._salt(sub, task, jti)
        member = self._tenants.get(sub.value)
        if member is None:
            if len(self._tenants) >= _REMEMBERED:
                self._tenants.clear()
            member = b'"cache_salt":"%b",' % self._salt(sub, task, jti)
            self._tenants[sub.value] = member
        return member

    def _salt(self, sub: Digest, task: str, jti: str, caller: str = "") -> bytes:
        scope = {"task": task, "request": jti}.get(self._mode, "")
        return cache_salt(self._key, self._mode, sub, scope=scope, caller=caller).encode("ascii")


def _spliced(body: bytes, start: int, end: int, piece: bytes) -> ForwardPlan:
    view = memoryview(body)  # a large body is copied once, not once a slice
    return _plan(
        body=b"".join((body[:start], piece, view[end:])),
        splices=(_splice(start, end - start, len(piece)),),
        inserted=(piece,),
    )


@lru_cache(maxsize=64)
def _splice(offset: int, deleted: int, inserted: int) -> Splice:
    """The same few over and over: most bodies begin with their brace."""
    return Splice(code=MEMBER, offset=offset, deleted=deleted, inserted=inserted)


def _skip(text: str, at: int) -> int:
    """Return the place of the next character that is no white space."""
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
