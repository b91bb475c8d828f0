"""From the outcome of an exchange to the claims of its receipt: pure, and done by the notary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError
from attestation.receipt.claims import (
    DECLARED,
    RETRY,
    Attempt,
    Decision,
    LineageClaims,
    LogPosition,
    ModelClaims,
    Parent,
    ReceiptClaims,
    RequestClaims,
    ResponseClaims,
)
from attestation.receipt.commitments import Openings, commit, commitment_key
from attestation.receipt.fitting import fit_claims
from attestation.receipt.text import MAX_PARENTS

if TYPE_CHECKING:
    from attestation.receipt.outcome import Body, Outcome
    from attestation.statement.model_lock import MeasuredModel

_ID_CONTEXT: Final = b"attested-gateway/receipt-id/v1/"
_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", re.ASCII)
_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContext:
    """What the notary knows and the worker does not.

    `index` and `admission` are the receipt's leaf index and admission number; `call` and
    `previous` its place in its task.  `model` is what this boot measured of the model that its
    own engine serves (None: nothing, or the engine is elsewhere).  `known` maps receipt ids of
    the same caller in this boot to receipt digests, as far as `outcome.lineage.parents` names
    them.  `repeats` is the receipt of the attempt that this request repeats.
    """

    issuer: str
    issued_at: int
    bootseed: bytes
    boot_secret: bytes = field(repr=False)
    keyset_digest: Digest
    debug: str
    provider: str
    quote_digest: Digest
    log_origin: str
    index: int
    admission: int
    call: int
    previous: Digest | None
    gpu_evidence: Digest | None = None
    model: MeasuredModel | None = None
    known: Mapping[str, Digest] = field(default_factory=dict)
    repeats: Digest | None = None


def claims_of(outcome: Outcome, context: SealContext) -> tuple[ReceiptClaims, Openings]:
    """Return the claims of one receipt, and the openings for its requester.

    Every commitment gets its own key; only labels that occur in the claims are opened.  The
    claims fit into a token (see `fit_claims`).
    """
    committer = _Committer(context.boot_secret, outcome.jti)
    # A worker's word that its engine is this domain's own counts where that was measured.
    model = context.model if all(attempt.local for attempt in outcome.attempts) else None
    claims = ReceiptClaims(
        issuer=context.issuer,
        issued_at=context.issued_at,
        jti=outcome.jti,
        nonce=outcome.nonce,
        bootseed=context.bootseed,
        keyset_digest=context.keyset_digest,
        debug=context.debug,
        provider=context.provider,
        quote_digest=context.quote_digest,
        gpu_evidence=context.gpu_evidence,
        request=_request(outcome, committer),
        response=_response(outcome, committer),
        model=_model(outcome, model),
        usage=outcome.usage,
        attempts=outcome.attempts if model else _elsewhere(outcome.attempts),
        decision=Decision(grant=outcome.grant_digest, code=outcome.decision),
        subject=outcome.sub,
        log=LogPosition(
            origin=context.log_origin, index=context.index, admission=context.admission
        ),
        lineage=_lineage(outcome, context),
    )
    return fit_claims(claims), Openings(keys=committer.keys, inserted=outcome.inserted)


def receipt_id_in(identifier: str) -> str | None:
    """Return the receipt id that a text is or contains, such as a completion's id; None if none.

    Sixty-four digits in a row are a digest, not an id.
    """
    match = _ID.search(identifier)
    return match[0] if match else None


def parent_digest(declared: str, known: Mapping[str, Digest]) -> Digest:
    """Return the digest that stands for a declared parent.

    A digest (hexadecimal or base64url) stands for itself; an id of a known receipt for that
    receipt's digest; anything else for SHA-256 of "attested-gateway/receipt-id/v1/" and the id
    in it (or, without one, the text), so that who holds the parent can still recognise it.
    """
    if _HEX_DIGEST.fullmatch(declared):
        return Digest.from_hex(declared)
    identifier = receipt_id_in(declared) or declared
    if identifier in known:
        return known[identifier]
    try:
        return Digest.from_base64url(declared)
    except MalformedError:
        return Digest.of(_ID_CONTEXT + identifier.encode("utf-8"))


def parents_of(
    declared: tuple[str, ...], known: Mapping[str, Digest], repeats: Digest | None
) -> tuple[Parent, ...]:
    """Return the parents of a call: the declared ones in their order, then what it repeats.

    What the caller declared goes first: beside sixteen declared parents there is no room.
    """
    parents = [Parent(kind=DECLARED, digest=parent_digest(one, known)) for one in declared]
    if repeats is not None and len(parents) < MAX_PARENTS:
        parents.append(Parent(kind=RETRY, digest=repeats))
    return tuple(parents)


class _Committer:
    """Makes commitments and remembers their keys."""

    def __init__(self, boot_secret: bytes, jti: str) -> None:
        self._boot_secret = boot_secret
        self._jti = jti
        self.keys: dict[str, bytes] = {}

    def commit(self, label: str, body: Body | None) -> bytes | None:
        if body is None:
            return None
        key = commitment_key(self._boot_secret, label, self._jti)
        self.keys[label] = key
        return commit(key, body.digest)


def _request(outcome: Outcome, committer: _Committer) -> RequestClaims:
    return RequestClaims(
        method=outcome.method,
        path=outcome.path,
        content_type=outcome.request_type,
        commitment=committer.commit("req", outcome.request),
        length=outcome.request.length if outcome.request else None,
        partial=outcome.request_partial,
        forwarded=committer.commit("fwd", outcome.forwarded),
        splices=outcome.splices,
    )


def _response(outcome: Outcome, committer: _Committer) -> ResponseClaims:
    return ResponseClaims(
        end=outcome.end,
        status=outcome.status,
        content_type=outcome.response_type,
        commitment=committer.commit("res", outcome.response),
        length=outcome.response.length if outcome.response else None,
        engine=committer.commit("eng", outcome.engine),
        block_offset=outcome.block_offset,
        events=outcome.events,
        finish_reasons=outcome.finish_reasons,
        mods=outcome.mods,
    )


def _model(outcome: Outcome, measured: MeasuredModel | None) -> ModelClaims:
    facts = outcome.model
    if measured is None:
        return ModelClaims(id=facts.id, served=facts.served, engine=facts.engine)
    return ModelClaims(
        id=facts.id,
        served=facts.served,
        engine=measured.engine,
        digest=measured.digest,
        configuration=measured.arguments_digest,
    )


def _elsewhere(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(replace(attempt, local=False) for attempt in attempts)


def _lineage(outcome: Outcome, context: SealContext) -> LineageClaims:
    lineage = outcome.lineage
    return LineageClaims(
        txn=lineage.txn,
        span=lineage.span,
        call=context.call,
        parent_span=lineage.parent_span,
        previous=context.previous,
        parents=parents_of(lineage.parents, context.known, context.repeats),
    )
