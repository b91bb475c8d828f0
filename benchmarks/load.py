"""Requests and outcomes as a worker would report them, the same ones for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from attestation.encoding.digest import Digest
from attestation.receipt.claims import Attempt, End, Usage
from attestation.receipt.outcome import Body, LineageContext, ModelFacts, Outcome
from gateway.access.principal import Grant, subject_of
from gateway.notary.interface import Announcement

PATH = "/v1/chat/completions"
CALLERS = 16
_MODEL = ModelFacts(id="bench/model-7b", served="bench/model-7b", engine="vllm/0.32.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request from its announcement to what came of it."""

    announcement: Announcement
    outcome: Outcome


def requests(seed: int) -> Iterator[Request]:
    """Yield plain chat exchanges of about a thousand bytes each way, without an end.

    One caller of sixteen, one task of a million, a nonce, token counts and one attempt: records of
    1.5 KB.
    """
    source = random.Random(seed)  # noqa: S311  (a repeatable load, nothing secret)
    subs = [subject_of(b"bench-%d" % number) for number in range(CALLERS)]
    grant = Grant().digest
    while True:
        yield _request(source, subs[source.randrange(CALLERS)], grant)


def _request(source: random.Random, sub: Digest, grant: Digest) -> Request:
    jti, span = f"{source.getrandbits(128):032x}", f"{source.getrandbits(64):016x}"
    lineage = LineageContext(txn=f"task-{source.getrandbits(20)}", span=span)
    read, written = source.randrange(50, 900), source.randrange(20, 500)
    outcome = Outcome(
        jti=jti,
        method="POST",
        path=PATH,
        sub=sub,
        grant_digest=grant,
        lineage=lineage,
        inline=True,
        end=End.COMPLETE,
        decision="allow",
        nonce=f"{source.getrandbits(256):064x}",
        request=_body(source),
        request_type="application/json",
        status=200,
        response=_body(source),
        response_type="application/json",
        finish_reasons=("stop",),
        model=_MODEL,
        usage=Usage(input=read, output=written, total=read + written),
        attempts=(
            Attempt(
                upstream="engine-0", local=True, outcome="ok", milliseconds=source.randrange(9000)
            ),
        ),
    )
    announcement = Announcement(
        jti=jti, method="POST", path=PATH, sub=sub, grant_digest=grant, lineage=lineage
    )
    return Request(announcement=announcement, outcome=outcome)


def _body(source: random.Random) -> Body:
    return Body(digest=Digest(source.randbytes(32)), length=source.randrange(800, 1200))
