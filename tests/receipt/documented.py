"""The example of docs/spec/receipt.md, made by the product's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attestation.encoding.jwk import public_jwk
from attestation.receipt.block import render_block
from attestation.receipt.seal import claims_of
from attestation.receipt.signing import sign_receipt
from tests.receipt.support import DONE, REQUEST, context, key_of, lineage, planned, private_key

USAGE = b'"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}'
FRAMES = (
    b'data: {"model":"tiny","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],' + USAGE + b"}\n\n",
)


@dataclass(frozen=True, kw_only=True)
class Documented:
    token: str
    claims: dict[str, Any]
    jwk: dict[str, str]
    openings: dict[str, Any]
    request: bytes
    stream: bytes


def documented() -> Documented:
    machine = planned(
        nonce="Tm9uY2Ugb2YgdGhlIGNhbGxlcg", lineage=lineage(parents=("chatcmpl-" + "f" * 32,))
    )
    machine.attempt("engine", local=False, outcome="ok", milliseconds=212)
    machine.respond(200, "text/event-stream", streaming=True)
    sent = b"".join([machine.engine(frame) for frame in (*FRAMES, DONE)])
    machine.engine_end(clean=True)
    claims, openings = claims_of(machine.finish(), context())
    private = private_key()
    token = sign_receipt(claims, private, key_of(private).kid)
    return Documented(
        token=token,
        claims=claims.to_json(),
        jwk=public_jwk(key_of(private).raw),
        openings=openings.to_json(),
        request=REQUEST,
        stream=sent + render_block(token, openings) + machine.terminal,
    )
