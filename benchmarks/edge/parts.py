"""What a receipt costs by part, in worker and notary: processor time of single steps, one thread.

The steps of the notary are those of `benchmarks.sealing`; a run of the whole shows besides what
passing a message, waking up and the event loop take, which no step here contains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from attestation.encoding.strict_json import parse_json_object
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import Exchange, ForwardPlan
from attestation.receipt.outcome import LineageContext, Outcome
from benchmarks import sealing
from benchmarks.edge.dialogue import DONE, PATH, event, plain_answer, request_body
from gateway.access.principal import Grant, subject_of
from gateway.notary.interface import Announcement
from gateway.notary.wire import announcements, outcomes

_JTI: Final = "0123456789abcdef" * 2
_EVENTS: Final = 200
_SUB: Final = subject_of(b"bench")
_GRANT: Final = Grant()
_JSON: Final = "application/json"


def worker_steps() -> dict[str, Callable[[int], object]]:
    """Return what a worker does for receipts, by name."""
    body, answer = request_body(), plain_answer(1024)
    events = [event(number, _EVENTS, 0) for number in range(_EVENTS)]
    announcement = Announcement(
        jti=_JTI,
        method="POST",
        path=PATH,
        sub=_SUB,
        grant_digest=_GRANT.digest,
        lineage=LineageContext(txn="bench", span="00f067aa0ba902b7"),
    )
    outcome = plain_outcome(body, answer)
    return {
        "request parsed strictly (1 KiB)": lambda _n: parse_json_object(body),
        "SHA-256 of both bodies (1 KiB each)": lambda _n: (
            hashlib.sha256(body).digest(),
            hashlib.sha256(answer).digest(),
        ),
        "exchange of a plain answer, hashing included": lambda _n: plain_outcome(body, answer),
        "announcement written": lambda _n: announcements.encode_announcement(announcement),
        "outcome written": lambda _n: outcomes.encode_outcome(outcome),
        f"exchange of a stream of {_EVENTS} events": lambda _n: stream_outcome(body, events),
    }


def plain_outcome(body: bytes, answer: bytes) -> Outcome:
    """Take one plain exchange from its request to its outcome."""
    exchange = _planned(body)
    exchange.respond(200, _JSON, streaming=False)
    exchange.engine(answer)
    exchange.engine_end(clean=True)
    return exchange.finish()


def stream_outcome(body: bytes, events: list[bytes]) -> Outcome:
    """Take one stream, each event as a piece of its own, from its request to its outcome."""
    exchange = _planned(body)
    exchange.respond(200, "text/event-stream", streaming=True)
    for piece in (*events, DONE):
        exchange.relay(piece, _take)
    exchange.engine_end(clean=True)
    return exchange.finish()


def _take(_piece: bytes) -> bool:
    return True


def _planned(body: bytes) -> Exchange:
    exchange = Exchange(
        jti=_JTI,
        method="POST",
        path=PATH,
        sub=_SUB,
        grant_digest=_GRANT.digest,
        dialect=dialect_of(PATH),
        inline=False,
        nonce=None,
        lineage=LineageContext(txn="bench", span="00f067aa0ba902b7"),
    )
    exchange.receive(body)
    exchange.received(_JSON)
    exchange.decide()
    exchange.plan(ForwardPlan(body=body))
    return exchange


def measure_parts(*, count: int = 500, rounds: int = 9) -> list[dict[str, Any]]:
    """Return the steps with their microseconds, each with the process that takes it."""
    rows = []
    for process, steps in (("worker", worker_steps()), ("notary", sealing.steps(count))):
        for name, step in steps.items():
            few = max(1, count // 20) if "stream" in name else count
            taken = sealing.best_microseconds(step, count=few, rounds=rounds)
            rows.append({"process": process, "step": name, "us": taken})
    return rows
