"""Receipts, outcomes and exchanges to take apart, put together from public parts only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.encoding import jwk
from attestation.encoding.digest import Digest
from attestation.receipt import text
from attestation.receipt.claims import Attempt, End, Splice, Usage
from attestation.receipt.dialect import Dialect
from attestation.receipt.exchange import Exchange, ForwardPlan
from attestation.receipt.outcome import Body, LineageContext, ModelFacts, Outcome
from attestation.receipt.seal import SealContext, claims_of
from attestation.statement.model_lock import MeasuredModel

JTI = "0123456789abcdef0123456789abcdef"
BOOT_SECRET = b"boot secret of thirty-two bytes!"
REQUEST = b'{"model":"tiny","messages":[]}'
CHAT_FRAME = b'data: {"model":"tiny","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
# Eleven digits: bytes, tokens, milliseconds and leaves beyond anything that happens.
LARGE = 99_999_999_999
DONE = b"data: [DONE]\n\n"


def digest(label: str) -> Digest:
    return Digest.of(label.encode())


def private_key(number: int = 1) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def key_of(private: Ed25519PrivateKey) -> jwk.Jwk:
    raw = private.public_key().public_bytes_raw()
    return jwk.Jwk(raw=raw, kid=jwk.thumbprint(raw))


def lineage(**changes: Any) -> LineageContext:
    return replace(LineageContext(txn="task-1", span="00f067aa0ba902b7"), **changes)


def context(**changes: Any) -> SealContext:
    base = SealContext(
        issuer="gateway.example",
        issued_at=1_763_668_800,
        bootseed=b"\x11" * 32,
        boot_secret=BOOT_SECRET,
        keyset_digest=digest("keyset"),
        debug="disabled",
        provider="simulated",
        quote_digest=digest("quote"),
        log_origin="gateway.example/1111111111111111",
        index=7,
        admission=9,
        call=0,
        previous=None,
    )
    return replace(base, **changes)


def measured_model() -> MeasuredModel:
    return MeasuredModel(
        digest=digest("weights"), engine="e" * 40, arguments_digest=digest("arguments")
    )


def body(data: bytes) -> Body:
    return Body(digest=Digest.of(data), length=len(data))


def outcome(**changes: Any) -> Outcome:
    base = Outcome(
        jti=JTI,
        method="POST",
        path="/v1/chat/completions",
        sub=digest("key"),
        grant_digest=digest("grant"),
        lineage=lineage(),
        inline=True,
        end=End.COMPLETE,
        decision="allow",
        request=body(REQUEST),
        request_type="application/json",
        status=200,
        response=body(b"answer"),
        response_type="application/json",
    )
    return replace(base, **changes)


def largest_outcome(parents: int = text.MAX_PARENTS) -> Outcome:
    """Every member that can occur with the others, as long as it can be."""
    big = LARGE
    long_name = "n" * 24
    return outcome(
        path="/" + "p" * 31,
        nonce="n" * 88,
        request=Body(digest=digest("request"), length=big),
        request_type="t" * 40,
        forwarded=body(b"forwarded"),
        splices=tuple(
            Splice(code="c" * 32, offset=big, deleted=big, inserted=big)
            for _ in range(text.MAX_SPLICES)
        ),
        inserted=(b"i" * 48,) * text.MAX_SPLICES,
        end=End.GATEWAY_FAILURE,
        status=599,
        response=Body(digest=digest("response"), length=big),
        response_type="t" * 40,
        engine=body(b"engine"),
        block_offset=big,
        events=big,
        finish_reasons=(*(f"{n:r<32}" for n in range(text.MAX_REASONS)), "error"),
        mods=("oversize", "stall", "padded", "batched"),
        model=ModelFacts(
            id="m" * 128,
            served="s" * 128,
            engine="e" * 40,
        ),
        usage=Usage(input=big, output=big, total=big),
        attempts=tuple(
            Attempt(upstream=long_name, local=True, outcome="o" * 32, milliseconds=big)
            for _ in range(text.MAX_ATTEMPTS)
        ),
        lineage=LineageContext(
            txn="t" * 128,
            span="0" * 16,
            parent_span="1" * 16,
            parents=tuple(f"parent-{n}" for n in range(parents)),
        ),
    )


def largest_context() -> SealContext:
    big = LARGE
    return context(
        issuer="i" * 48,
        issued_at=big,
        provider="p" * 24,
        log_origin="o" * 48 + "/" + "0" * 16,
        index=big,
        admission=big,
        call=big,
        previous=digest("previous"),
        gpu_evidence=digest("gpu"),
        model=measured_model(),
    )


def payload(**changes: Any) -> dict[str, Any]:
    claims, _ = claims_of(outcome(**changes), context())
    return claims.to_json()


def exchange(**changes: Any) -> Exchange:
    arguments: dict[str, Any] = {
        "jti": JTI,
        "method": "POST",
        "path": "/v1/chat/completions",
        "sub": digest("key"),
        "grant_digest": digest("grant"),
        "dialect": Dialect.CHAT,
        "inline": True,
        "nonce": None,
        "lineage": lineage(),
    }
    return Exchange(**(arguments | changes))


def planned(**changes: Any) -> Exchange:
    machine = exchange(**changes)
    machine.receive(REQUEST)
    machine.received("application/json")
    machine.decide()
    machine.set_model("tiny", engine="vllm/0.32.0")
    machine.plan(ForwardPlan(body=REQUEST))
    return machine


def plain(**changes: Any) -> Exchange:
    machine = planned(**changes)
    machine.respond(200, "application/json", streaming=False)
    return machine


def streaming(**changes: Any) -> Exchange:
    machine = planned(**changes)
    machine.respond(200, "text/event-stream", streaming=True)
    return machine


@dataclass
class Streamed:
    """What came of driving one stream through an exchange."""

    outcome: Outcome
    sent: bytes
    terminal: bytes
    machine: Exchange = field(repr=False)


def stream(pieces: list[bytes], *, clean: bool = True, **changes: Any) -> Streamed:
    machine = streaming(**changes)
    sent = []
    for piece in pieces:
        released = machine.engine(piece)
        if released:
            machine.taken(released)
        sent.append(released)
    machine.engine_end(clean=clean)
    told = machine.finish()
    return Streamed(outcome=told, sent=b"".join(sent), terminal=machine.terminal, machine=machine)
