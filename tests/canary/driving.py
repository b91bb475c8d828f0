"""One gateway being driven: requests with the token in them, and all that came back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from attestation.receipt.block import find_block
from attestation.receipt.commitments import Openings, parse_openings_header
from gateway.edge import routes
from tests.canary.engine import CanaryEngine
from tests.canary.search import Canary
from tests.canary.wire import Door, Reply
from tests.support.collector import Collector
from tests.support.serving import Served

BODY_BYTES, RESPONSE_BYTES, FRAME_BYTES, HEADER_BYTES = 20_000, 8_000, 4_096, 4_096


CHAT = routes.CHAT


@dataclass(slots=True, kw_only=True)
class Run:
    """One gateway being driven; what came back is collected for the search."""

    served: Served
    engine: CanaryEngine
    canary: Canary
    door: Door
    keys: dict[str, str]
    codes: set[str] = field(default_factory=set)
    bodies: set[bytes] = field(default_factory=set)
    openings: list[Openings] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    collector: Collector | None = None

    def document(self, **members: Any) -> dict[str, Any]:
        """A chat request full of the token that nothing is wrong with."""
        token = self.canary.hidden
        return {
            "model": self.canary.recorded,
            "messages": [
                {"role": "system", "content": f"be {token}"},
                {"role": "user", "content": token, "name": token},
            ],
            "stop": [token, f"{token} 2"],
            "tools": [{"type": "function", "function": {"name": token, "description": token}}],
            "metadata": {token: token},
            "logit_bias": {token: 1},
            "response_format": {"type": "json_schema", "json_schema": {"name": token}},
            token: token,
            **members,
        }

    def body(self, **members: Any) -> bytes:
        return json.dumps(self.document(**members)).encode()

    def request(
        self,
        body: bytes | None = None,
        *,
        path: str = CHAT,
        key: str = "main",
        method: str = "POST",
        headers: tuple[str, ...] = (),
        drop: tuple[str, ...] = (),
        inline: bool = True,
        task: str | None = None,
    ) -> bytes:
        """The bytes of one request after which the gateway closes."""
        body = self.body() if body is None else body
        self.bodies.add(body)
        token = self.canary.hidden
        lines = {
            "host": f"host: {token}.example:1",
            "authorization": f"authorization: Bearer {self.keys.get(key, key)}",
            "content-type": "content-type: application/json",
            "content-length": f"content-length: {len(body)}",
            "connection": "connection: close",
            "user-agent": f"user-agent: {token}/1",
            "cookie": f"cookie: a={token}",
            "x-task-id": f"x-task-id: {task or self.canary.recorded}",
            "x-receipt-nonce": f"x-receipt-nonce: {self.canary.recorded}",
            "x-receipt": "x-receipt: inline",
        }
        left_out = {*drop, *(() if inline else ("x-receipt",))}
        kept = [line for name, line in lines.items() if name not in left_out]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, *headers, "", ""])
        return head.encode("latin-1") + body

    def ask(self, body: bytes | None = None, *, expect: str | None = None, **how: Any) -> Reply:
        """Send one request; `expect` is the code of the gateway's own error, quoting nothing."""
        return self.note(self.door.exchange(self.request(body, **how)), expect)

    def raw(self, data: bytes, *, expect: str | None = None, encrypted: bool = True) -> Reply:
        return self.note(self.door.exchange(data, encrypted=encrypted), expect)

    def note(self, reply: Reply, expect: str | None = None) -> Reply:
        self.codes |= reply.codes
        found = reply.header("x-receipt-openings")
        block = find_block(_unchunked(reply.data))
        if found is not None:
            self.openings.append(parse_openings_header(found))
        if block is not None:
            self.openings.append(parse_openings_header(block.openings))
        jti = reply.header("x-receipt-id")
        if jti is not None:
            self.ids.append(jti)
        if expect is not None:
            assert expect in reply.codes, f"expected {expect}, saw {reply.status} {reply.codes}"
            assert self.canary.hidden.encode() not in reply.data.lower()
        return reply

    @property
    def secrets(self) -> dict[str, bytes]:
        """What must never be anywhere: API keys and openings."""
        named = {f"API key {name}": key.encode() for name, key in self.keys.items()}
        for number, openings in enumerate(self.openings):
            named |= {f"opening {number} {label}": key for label, key in openings.keys.items()}
        return named


def _unchunked(data: bytes) -> bytes:
    """The body of a chunked answer; of another one, its bytes as they are."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head:
        return rest
    body = bytearray()
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size or b"0", 16)
        body += rest[:length]
        rest = rest[length + 2 :]
    return bytes(body)
