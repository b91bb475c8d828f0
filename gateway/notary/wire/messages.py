"""What workers say to the notary: encoded by the one side, read by the other as from a stranger.

A worker parses what callers send, so it is the likelier one to be taken over.  Nothing it says
is believed further than its form: every text fits the alphabet that receipts have for it, every
number its bounds, and the facts of an outcome do not contradict each other.  What is left, that
it was announced on the same connection and agrees with its announcement, is the server's and
the ledger's to check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.lineage.context import LineageContext
from attestation.receipt import text
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.outcome import Body, ModelFacts, Outcome
from gateway.notary.interface import Announcement
from gateway.notary.wire import values
from gateway.notary.wire.values import refused

MAX_WAIT_SECONDS: Final = 30
MAX_COUNT: Final = 1_000_000
NONCE_BYTES: Final = 32
MAX_INSERTED_BYTES: Final = 512
_LOG_PATH: Final = re.compile(r"[a-z0-9./]{1,128}", re.ASCII)
_ENDS: Final = {str(end): end for end in End}
_OUTCOME_ITEMS: Final = 27
_NO_FACTS: Final = ModelFacts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A question for a receipt by its jti; `wait_milliseconds` is at most 30,000."""

    jti: str
    sub: Digest
    wait_milliseconds: int


def encode_announcement(said: Announcement) -> bytes:
    """Return the payload of ANNOUNCE."""
    lineage = said.lineage
    return values.encode(
        (
            said.jti,
            said.method,
            said.path,
            said.sub.hex,
            said.grant_digest.hex,
            None if lineage is None else _lineage_items(lineage),
        )
    )


def decode_announcement(payload: bytes) -> Announcement:
    """Return what ANNOUNCE says, or raise `MalformedError`."""
    jti, method, path, sub, grant, lineage = values.decode(payload, 6)
    return Announcement(
        jti=values.text_of(jti, text.RECEIPT_ID),
        method=values.text_of(method, text.METHOD),
        path=values.text_of(path, text.PATH),
        sub=values.digest(sub),
        grant_digest=values.digest(grant),
        lineage=None if lineage is None else _lineage(lineage),
    )


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the payload of SEAL."""
    model, usage = outcome.model, outcome.usage
    return values.encode(
        (
            outcome.jti,
            outcome.method,
            outcome.path,
            outcome.sub.hex,
            outcome.grant_digest.hex,
            _lineage_items(outcome.lineage),
            outcome.inline,
            outcome.end,
            outcome.decision,
            outcome.nonce,
            _body_items(outcome.request),
            outcome.request_type,
            outcome.request_partial,
            _body_items(outcome.forwarded),
            [(one.code, one.offset, one.deleted, one.inserted) for one in outcome.splices],
            [base64url.encode(piece) for piece in outcome.inserted],
            outcome.status,
            _body_items(outcome.response),
            outcome.response_type,
            _body_items(outcome.engine),
            outcome.block_offset,
            outcome.events,
            outcome.finish_reasons,
            outcome.mods,
            None if model is _NO_FACTS else _model_items(model),
            None if usage is None else (usage.input, usage.output, usage.total),
            [(one.upstream, one.local, one.outcome, one.milliseconds) for one in outcome.attempts],
        )
    )


def outcome_id(payload: bytes) -> str:
    """Return the jti of a SEAL whose other items may be anything, or raise `MalformedError`."""
    return values.text_of(values.decode(payload, _OUTCOME_ITEMS)[0], text.RECEIPT_ID)


def decode_outcome(payload: bytes) -> Outcome:
    """Return what SEAL says, or raise `MalformedError`."""
    items = values.decode(payload, _OUTCOME_ITEMS)
    outcome = Outcome(
        jti=values.text_of(items[0], text.RECEIPT_ID),
        method=values.text_of(items[1], text.METHOD),
        path=values.text_of(items[2], text.PATH),
        sub=values.digest(items[3]),
        grant_digest=values.digest(items[4]),
        lineage=_lineage(items[5]),
        inline=values.flag(items[6]),
        end=_end(items[7]),
        decision=values.text_of(items[8], text.CODE),
        nonce=values.optional_text(items[9], text.NONCE),
        request=_body(items[10]),
        request_type=values.optional_text(items[11], text.CONTENT_TYPE),
        request_partial=values.flag(items[12]),
        forwarded=_body(items[13]),
        splices=tuple(map(_splice, values.array(items[14], longest=text.MAX_SPLICES))),
        inserted=tuple(map(_inserted, values.array(items[15], longest=text.MAX_SPLICES))),
        status=values.optional_integer(items[16], 100, 599),
        response=_body(items[17]),
        response_type=values.optional_text(items[18], text.CONTENT_TYPE),
        engine=_body(items[19]),
        block_offset=values.optional_integer(items[20]),
        events=values.optional_integer(items[21]),
        finish_reasons=_texts(items[22], text.MAX_REASONS + 1, text.REASON),
        mods=_texts(items[23], text.MAX_MODS, text.CODE),
        model=_NO_FACTS if items[24] is None else _model(items[24]),
        usage=None if items[25] is None else _usage(items[25]),
        attempts=tuple(map(_attempt, values.array(items[26], longest=text.MAX_ATTEMPTS))),
    )
    _require_consistent(outcome)
    return outcome


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


def _lineage_items(lineage: LineageContext) -> tuple[Any, ...]:
    return lineage.txn, lineage.span, lineage.parent_span, lineage.parents


def _lineage(value: object) -> LineageContext:
    txn, span, parent, parents = values.array(value, longest=4, length=4)
    return LineageContext(
        txn=values.text_of(txn, text.CALLER_TEXT),
        span=values.text_of(span, text.SPAN),
        parent_span=values.optional_text(parent, text.SPAN),
        parents=_texts(parents, text.MAX_PARENTS, text.CALLER_TEXT),
    )


def _texts(value: object, longest: int, pattern: re.Pattern[str]) -> tuple[str, ...]:
    items = values.array(value, longest=longest)
    return tuple(values.text_of(item, pattern) for item in items)


def _end(value: object) -> End:
    end = _ENDS.get(value) if type(value) is str else None
    if end is None:
        raise refused("an end of an exchange: " + ", ".join(_ENDS))
    return end


def _body_items(body: Body | None) -> tuple[str, int] | None:
    return None if body is None else (body.digest.hex, body.length)


def _body(value: object) -> Body | None:
    if value is None:
        return None
    digest, length = values.array(value, longest=2, length=2)
    return Body(digest=values.digest(digest), length=values.integer(length))


def _splice(value: object) -> Splice:
    code, offset, deleted, inserted = values.array(value, longest=4, length=4)
    return Splice(
        code=values.text_of(code, text.CODE),
        offset=values.integer(offset),
        deleted=values.integer(deleted),
        inserted=values.integer(inserted),
    )


def _inserted(value: object) -> bytes:
    return values.binary(value, longest=MAX_INSERTED_BYTES)


def _model_items(model: ModelFacts) -> tuple[str | None, ...]:
    return model.id, model.served, model.engine


def _model(value: object) -> ModelFacts:
    name, served, engine = values.array(value, longest=3, length=3)
    return ModelFacts(
        id=values.optional_text(name, text.CALLER_TEXT),
        served=values.optional_text(served, text.CALLER_TEXT),
        engine=values.optional_text(engine, text.ENGINE),
    )


def _usage(value: object) -> Usage:
    counts = values.array(value, longest=3, length=3)
    if counts == [None, None, None]:
        raise refused("at least one token count")
    known = [values.optional_integer(count) for count in counts]
    return Usage(input=known[0], output=known[1], total=known[2])


def _attempt(value: object) -> Attempt:
    upstream, local, outcome, milliseconds = values.array(value, longest=4, length=4)
    return Attempt(
        upstream=values.text_of(upstream, text.LABEL),
        local=values.flag(local),
        outcome=values.text_of(outcome, text.CODE),
        milliseconds=values.integer(milliseconds),
    )


def _require_consistent(outcome: Outcome) -> None:
    """Refuse what would make a receipt that no verifier reads (docs/spec/receipt.md)."""
    if outcome.end is not End.GATEWAY_FAILURE and (
        outcome.request is None or outcome.response is None
    ):
        raise refused("both bodies, unless the end is gateway_failure")
    if (outcome.forwarded is None) != (not outcome.splices):
        raise refused("a forwarded body if and only if there are rewrites")
    if outcome.forwarded is not None and outcome.request is None:
        raise refused("a received body wherever there is a forwarded one")
    if len(outcome.inserted) != len(outcome.splices) or any(
        len(piece) != splice.inserted
        for piece, splice in zip(outcome.inserted, outcome.splices, strict=False)
    ):
        raise refused("the inserted bytes of every rewrite")
    delivered = outcome.response.length if outcome.response else 0
    if outcome.block_offset is not None and outcome.block_offset > delivered:
        raise refused("an in-band block inside the response")
