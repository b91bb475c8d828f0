r"""ANNOUNCE: a worker has authenticated a request.

    jti 16 ‖ owner 32 ‖ grant 32 ‖ method \n path [\n task \n span \n parent span {\n parent}]

Packed, not JSON, as all that crosses the socket for every request: reading it takes 2.5
microseconds instead of 5.  An empty text stands for none.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final

from attestation.encoding.digest import Digest
from attestation.encoding.making import maker_of
from attestation.lineage.context import LineageContext
from attestation.receipt import text
from gateway.notary.interface import Announcement
from gateway.notary.wire.values import refused

_announcement = maker_of(Announcement)
_lineage = maker_of(LineageContext)
_HEAD: Final = struct.Struct(">16s32s32s")
_CALLER: Final = text.CALLER_TEXT.pattern
_SPAN: Final = text.SPAN.pattern
LINEAGE: Final = rf"({_CALLER})\n({_SPAN})\n({_SPAN})?"
"""Three groups: task, span, parent span."""
PARENTS: Final = rf"((?:\n{_CALLER}){{0,{text.MAX_PARENTS}}})"
"""One group: every parent after a line feed."""
_TEXTS: Final = re.compile(
    rf"({text.METHOD.pattern})\n({text.PATH.pattern})(?:\n{LINEAGE}{PARENTS})?", re.ASCII
)


def encode_announcement(said: Announcement) -> bytes:
    """Return the payload of ANNOUNCE."""
    texts = [said.method, said.path]
    lineage = said.lineage
    if lineage is not None:
        texts += (lineage.txn, lineage.span, lineage.parent_span or "", *lineage.parents)
    head = _HEAD.pack(bytes.fromhex(said.jti), said.sub.value, said.grant_digest.value)
    return head + "\n".join(texts).encode("utf-8")


def decode_announcement(payload: bytes) -> Announcement:
    """Return what ANNOUNCE says, or raise `MalformedError`."""
    if len(payload) < _HEAD.size:
        raise refused("an announcement")
    jti, sub, grant = _HEAD.unpack_from(payload)
    match = _TEXTS.fullmatch(payload[_HEAD.size :].decode("latin-1"))
    if match is None:
        raise refused("method, path and lineage of an announcement")
    method, path, txn, span, parent_span, parents = match.groups()
    lineage = None if txn is None else lineage_of(txn, span, parent_span, parents)
    return _announcement(
        jti=jti.hex(),
        method=method,
        path=path,
        sub=_repeated(sub),
        grant_digest=_repeated(grant),
        lineage=lineage,
    )


def lineage_of(
    txn: str, span: str, parent_span: str | None, parents: str, *, repeated: bool = False
) -> LineageContext:
    """Return what the groups of `LINEAGE` and `PARENTS` say.

    Whether the request is called a repeat says the outcome: without a body it means nothing.
    """
    return _lineage(
        txn=txn,
        span=span,
        parent_span=parent_span,
        parents=tuple(parents[1:].split("\n")) if parents else (),
        repeated=repeated,
    )


@lru_cache(maxsize=4096)
def _repeated(digest: bytes) -> Digest:
    # Callers and their grants come again, and one object is equal to itself at once.
    return Digest(digest)
