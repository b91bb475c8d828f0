"""Everything the notary has to know of one exchange: plain data, without a byte of its bodies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attestation.receipt.claims import UNDECIDED, Attempt, End, Splice, Usage

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageContext:
    """What a caller declares about a call: its task, its span, its parents.

    `parents` are the caller's own texts: receipt ids, ids that contain one, or receipt digests.
    `repeated` says that the caller's software called this a repeat of an earlier request; of which
    one, only the notary can tell.
    """

    txn: str
    span: str
    parent_span: str | None = None
    parents: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Digest and length of a body."""

    digest: Digest
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Names of the model and the engine; what is measured of them the notary knows itself."""

    id: str | None = None
    served: str | None = None
    engine: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One finished exchange.

    `request` is None only if nobody is left who saw it.  `forwarded` is None when no byte was
    changed (then `splices` and `inserted` are empty).  `response` is what was committed for
    delivery, `engine` what the engine sent where that differs.  `block_offset` is where the
    in-band block goes, None if there is none.  `inline` says whether the caller asked for it.
    """

    jti: str
    method: str
    path: str
    sub: Digest
    grant_digest: Digest
    lineage: LineageContext
    inline: bool
    end: End
    decision: str = UNDECIDED
    nonce: str | None = None
    request: Body | None = None
    request_type: str | None = None
    request_partial: bool = False
    forwarded: Body | None = None
    splices: tuple[Splice, ...] = ()
    inserted: tuple[bytes, ...] = field(default=(), repr=False)
    status: int | None = None
    response: Body | None = None
    response_type: str | None = None
    engine: Body | None = None
    block_offset: int | None = None
    events: int | None = None
    finish_reasons: tuple[str, ...] = ()
    mods: tuple[str, ...] = ()
    model: ModelFacts = ModelFacts()
    usage: Usage | None = None
    attempts: tuple[Attempt, ...] = ()


def abandoned(
    *,
    jti: str,
    method: str,
    path: str,
    sub: Digest,
    grant_digest: Digest,
    lineage: LineageContext,
) -> Outcome:
    """Return the outcome of an announced exchange whose worker is gone: a gateway_failure of
    which neither request nor response is known.
    """
    return Outcome(
        jti=jti,
        method=method,
        path=path,
        sub=sub,
        grant_digest=grant_digest,
        lineage=lineage,
        inline=False,
        end=End.GATEWAY_FAILURE,
    )
