"""What the gateway itself answers, in the error form of the route's own API.

OpenAI's form is `{"error":{"message","type","param","code"}}`; Anthropic's, on /v1/messages and
below it, is `{"type":"error","error":{"type","message"}}` and has no place for a code, so there
the message begins with it.  A message says what was expected, what was seen and what to do next
in our own words; it never quotes the request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from attestation.receipt.claims import End
from attestation.receipt.dialect import Dialect
from gateway.edge.routes import MESSAGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

JSON: Final = "application/json"
_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer of the gateway's own instead of the engine's.

    `code` is stable, stands in the answer and in the receipt's decision; `param` names a field of
    the request; `headers` are added to the answer (lower-case names).
    """

    status: int
    code: str
    message: str
    param: str | None = None
    end: End = End.REFUSED
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def is_anthropic(path: str) -> bool:
    """Whether this path answers in Anthropic's form."""
    return path == MESSAGES or path.startswith(MESSAGES + "/")


def error_body(path: str, refusal: Refusal) -> bytes:
    """Render a refusal as the JSON body of its answer."""
    return _dump(_envelope(refusal, anthropic=is_anthropic(path)))


def error_frame(dialect: Dialect, refusal: Refusal) -> bytes:
    """Render a failure as the event that ends a stream, as the dialect's clients expect it."""
    if dialect is Dialect.MESSAGES:
        return b"event: error\ndata: %b\n\n" % _dump(_envelope(refusal, anthropic=True))
    body = _envelope(refusal, anthropic=False)
    if dialect is Dialect.RESPONSES:
        event = {
            "type": "error",
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            "sequence_number": 0,
        }
        return b"event: error\ndata: %b\n\n" % _dump(event | body)
    return b"data: %b\n\n" % _dump(body)


def _envelope(refusal: Refusal, *, anthropic: bool) -> dict[str, Any]:
    if anthropic:
        kind = _ANTHROPIC_TYPES.get(refusal.status) or _general_type(refusal.status, "api_error")
        message = f"{refusal.code}: {refusal.message}"
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = _OPENAI_TYPES.get(refusal.status) or _general_type(refusal.status, "server_error")
    return {
        "error": {
            "message": refusal.message,
            "type": kind,
            "param": refusal.param,
            "code": refusal.code,
        }
    }


def _general_type(status: int, server: str) -> str:
    return server if status >= 500 else "invalid_request_error"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


async def refuse(send: Callable[[Any], Awaitable[None]], path: str, refusal: Refusal) -> None:
    """Answer an ASGI request to `path` so, without a receipt."""
    body = error_body(path, refusal)
    own = ((b"content-type", JSON.encode("ascii")), (b"content-length", b"%d" % len(body)))
    headers = [*own, *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
