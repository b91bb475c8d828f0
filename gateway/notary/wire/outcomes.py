r"""SEAL: how a request ended.

    jti 16 ‖ flags u8 (1 inline, 2 request not read to its end, 4 called a repeat) ‖ n u16
    ‖ SHA-256 32 ‖ length u64 of the bodies received, forwarded, delivered and sent by the engine
    ‖ u64 each: offset of the in-band block, events, tokens read, tokens written, tokens altogether
    ‖ status u16 ‖ facts n ‖ particulars

    particulars = task \n span \n parent span \n nonce \n milliseconds of the attempts \n rewrites
                  {\n parent}

Integers are big-endian and at most 2^53, which stands for none, as do status 0 and an empty text.
Lists have commas between their items; a rewrite is `offset:deleted:inserted bytes in base64url`,
and `facts` is what `gateway.notary.wire.facts` writes.  Whose request it is and what was asked for
stands in its announcement, so that an outcome cannot contradict it.

Packed, not JSON, as all that crosses the socket for every request: reading an outcome takes 10
microseconds instead of 19.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.making import maker_of
from attestation.receipt import text
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.outcome import Body, Outcome
from gateway.notary.wire.announcements import LINEAGE, PARENTS, lineage_of
from gateway.notary.wire.facts import decode_facts, encode_facts
from gateway.notary.wire.insertions import inserted_bytes
from gateway.notary.wire.values import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.notary.interface import Announcement
    from gateway.notary.wire.facts import Facts
    from gateway.notary.wire.insertions import Insertions

_NONE: Final = text.MAX_INTEGER + 1
_INLINE: Final = 1
_PARTIAL: Final = 2
_REPEATED: Final = 4
_JTI_BYTES: Final = 16
_HEAD: Final = struct.Struct(">16sBH32sQ32sQ32sQ32sQQQQQQH")
_NO_BODY: Final = (bytes(32), _NONE)
_DIGITS: Final = 16
_attempt = maker_of(Attempt)
_body_of = maker_of(Body)
_digest = maker_of(Digest)
_outcome = maker_of(Outcome)
_splice = maker_of(Splice)
_tokens = maker_of(Usage)
_PARTICULARS: Final = re.compile(
    rf"{LINEAGE}\n({text.NONCE.pattern})?\n([0-9,]{{0,60}})\n([0-9A-Za-z_:,-]{{0,1600}}){PARENTS}",
    re.ASCII,
)


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the payload of SEAL.

    Of an outcome with numbers or rewrites that no receipt can hold only the id is said: the
    notary refuses it, and seals the request as `gateway_failure`.
    """
    jti = bytes.fromhex(outcome.jti)
    try:
        facts = encode_facts(outcome)
        head = _HEAD.pack(
            jti,
            (_INLINE if outcome.inline else 0)
            | (_PARTIAL if outcome.request_partial else 0)
            | (_REPEATED if outcome.lineage.repeated else 0),
            len(facts),
            *_body_items(outcome.request),
            *_body_items(outcome.forwarded),
            *_body_items(outcome.response),
            *_body_items(outcome.engine),
            _NONE if outcome.block_offset is None else outcome.block_offset,
            _NONE if outcome.events is None else outcome.events,
            *_usage_items(outcome.usage),
            outcome.status or 0,
        )
        return b"".join((head, facts, _particulars(outcome)))
    except (struct.error, ValueError):
        return jti


def outcome_id(payload: bytes) -> str:
    """Return the jti of a SEAL whose other items may be anything, or raise `MalformedError`."""
    if len(payload) < _JTI_BYTES:
        raise refused("an outcome")
    return payload[:_JTI_BYTES].hex()


def decode_outcome(
    payload: bytes, said: Announcement, inserted: Insertions | None = None
) -> Outcome:
    """Return what SEAL says of the request with this announcement, or raise `MalformedError`.

    `inserted` is what `insertions` made for the connection; without it nothing is remembered.
    """
    if len(payload) < _HEAD.size:
        raise refused("an outcome")
    (
        _, flags, length, received, received_length, forwarded, forwarded_length, delivered,
        delivered_length, engine, engine_length, block_offset, events, read, written, total, status,
    ) = _HEAD.unpack_from(payload)  # fmt: skip
    if flags > _INLINE | _PARTIAL | _REPEATED or (status and not 100 <= status <= 599):
        raise refused("flags and status of an outcome")
    highest = max(
        received_length, forwarded_length, delivered_length, engine_length, block_offset, events,
        read, written, total,
    )  # fmt: skip
    if highest > _NONE:
        raise refused(f"integers from 0 to {text.MAX_INTEGER}")
    end_of_facts = _HEAD.size + length
    facts = decode_facts(payload[_HEAD.size : end_of_facts])
    match = _PARTICULARS.fullmatch(payload[end_of_facts:].decode("latin-1"))
    if match is None:
        raise refused("lineage, nonce, attempts and rewrites of an outcome")
    txn, span, parent_span, nonce, times, rewrites, parents = match.groups()
    lineage = said.lineage
    # Mostly it is what was announced: one object instead of two.
    if (
        flags & _REPEATED
        or parents
        or lineage is None
        or lineage.parents
        or lineage.txn != txn
        or lineage.span != span
        or lineage.parent_span != parent_span
    ):
        lineage = lineage_of(txn, span, parent_span, parents, repeated=flags & _REPEATED != 0)
    if rewrites:
        splices, pieces = _rewrites(facts.rewrites, rewrites, inserted or inserted_bytes)
    else:
        splices, pieces = _no_rewrite(facts)
    outcome = _outcome(
        jti=said.jti,
        method=said.method,
        path=said.path,
        sub=said.sub,
        grant_digest=said.grant_digest,
        lineage=lineage,
        inline=flags & _INLINE != 0,
        end=facts.end,
        decision=facts.decision,
        nonce=nonce,
        request=_body(received, received_length),
        request_type=facts.request_type,
        request_partial=flags & _PARTIAL != 0,
        forwarded=_body(forwarded, forwarded_length),
        splices=splices,
        inserted=pieces,
        status=status or None,
        response=_body(delivered, delivered_length),
        response_type=facts.response_type,
        engine=_body(engine, engine_length),
        block_offset=None if block_offset == _NONE else block_offset,
        events=None if events == _NONE else events,
        finish_reasons=facts.finish_reasons,
        mods=facts.mods,
        model=facts.model,
        usage=_usage(read, written, total),
        attempts=_attempts(facts.attempts, times),
    )
    _require_consistent(outcome)
    return outcome


def _particulars(outcome: Outcome) -> bytes:
    lineage = outcome.lineage
    times = [str(one.milliseconds) for one in outcome.attempts]
    rewrites = _rewrite_texts(outcome) if outcome.splices or outcome.inserted else ()
    said = (
        lineage.txn,
        lineage.span,
        lineage.parent_span or "",
        outcome.nonce or "",
        ",".join(times),
        ",".join(rewrites),
        *lineage.parents,
    )
    return "\n".join(said).encode("utf-8")


def _rewrite_texts(outcome: Outcome) -> Iterator[str]:
    for splice, piece in zip(outcome.splices, outcome.inserted, strict=True):
        if splice.inserted != len(piece):
            raise ValueError("a rewrite whose bytes are others")
        yield f"{splice.offset}:{splice.deleted}:{base64url.encode(piece)}"


def _rewrites(
    codes: tuple[str, ...], said: str, inserted: Insertions
) -> tuple[tuple[Splice, ...], tuple[bytes, ...]]:
    splices, pieces = [], []
    items = said.split(",")
    if len(items) != len(codes):
        raise refused("the bytes of every rewrite, and a code")
    for code, item in zip(codes, items, strict=True):
        parts = item.split(":")
        if len(parts) != 3:
            raise refused("a rewrite: offset, deleted, inserted bytes")
        piece = inserted(parts[2])
        offset, deleted = _number(parts[0]), _number(parts[1])
        splices.append(_splice(code=code, offset=offset, deleted=deleted, inserted=len(piece)))
        pieces.append(piece)
    return tuple(splices), tuple(pieces)


def _no_rewrite(facts: Facts) -> tuple[tuple[Splice, ...], tuple[bytes, ...]]:
    if facts.rewrites:
        raise refused("the bytes of every rewrite, and a code")
    return (), ()


def _attempts(known: tuple[tuple[str, str, bool], ...], times: str) -> tuple[Attempt, ...]:
    if len(known) == 1:
        ((upstream, came_of_it, local),) = known
        taken_by_it = _number(times)
        return (
            _attempt(upstream=upstream, outcome=came_of_it, local=local, milliseconds=taken_by_it),
        )
    taken = times.split(",") if times else []
    if len(taken) != len(known):
        raise refused("how long every attempt took")
    return tuple(
        [
            Attempt(upstream=one[0], outcome=one[1], local=one[2], milliseconds=_number(time))
            for one, time in zip(known, taken, strict=True)
        ]
    )


def _body_items(body: Body | None) -> tuple[bytes, int]:
    return _NO_BODY if body is None else (body.digest.value, body.length)


def _body(digest: bytes, length: int) -> Body | None:
    return None if length == _NONE else _body_of(_digest(digest), length)


def _usage_items(usage: Usage | None) -> tuple[int, int, int]:
    if usage is None:
        return _NONE, _NONE, _NONE
    return (
        _NONE if usage.input is None else usage.input,
        _NONE if usage.output is None else usage.output,
        _NONE if usage.total is None else usage.total,
    )


def _usage(read: int, written: int, total: int) -> Usage | None:
    if read == written == total == _NONE:
        return None
    return _tokens(
        input=None if read == _NONE else read,
        output=None if written == _NONE else written,
        total=None if total == _NONE else total,
    )


def _number(digits: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS):
        raise refused(f"a number of 1 to {_DIGITS} digits")
    number = int(digits)
    if number > text.MAX_INTEGER:
        raise refused(f"an integer from 0 to {text.MAX_INTEGER}")
    return number


def _require_consistent(outcome: Outcome) -> None:
    """Refuse what would make a receipt that no verifier reads (docs/spec/receipt.md)."""
    request, response = outcome.request, outcome.response
    if (request is None or response is None) and outcome.end is not End.GATEWAY_FAILURE:
        raise refused("both bodies, unless the end is gateway_failure")
    if (outcome.forwarded is None) != (not outcome.splices):
        raise refused("a forwarded body if and only if there are rewrites")
    if outcome.forwarded is not None and request is None:
        raise refused("a received body wherever there is a forwarded one")
    delivered = response.length if response else 0
    if outcome.block_offset is not None and outcome.block_offset > delivered:
        raise refused("an in-band block inside the response")
