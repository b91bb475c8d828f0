"""The answers for what goes wrong on the way, as opposed to what a caller may not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.receipt.claims import End
from gateway.edge.errors import Refusal
from gateway.errors import UpstreamFailure

if TYPE_CHECKING:
    from gateway.edge.limits import EdgeLimits
    from gateway.errors import UpstreamError

NEVER_AGAIN: Final = ((b"x-should-retry", b"false"),)
"""For a request that ran: repeating it would do the work, and pay for it, once more."""

SOON: Final = ((b"retry-after", b"1"),)
_RAN: Final = frozenset(
    {
        UpstreamFailure.TIMEOUT_FIRST_BYTE,
        UpstreamFailure.TIMEOUT_IDLE,
        UpstreamFailure.TIMEOUT_TOTAL,
        UpstreamFailure.MALFORMED,
        UpstreamFailure.INCOMPLETE,
    }
)
"""The engine had the request, and worked or still works on it."""

_MESSAGES: Final = {
    UpstreamFailure.CONNECT: "the engine cannot be reached; try again later",
    UpstreamFailure.TIMEOUT_CONNECT: "the engine did not accept a connection in time; "
    "try again later",
    UpstreamFailure.TIMEOUT_FIRST_BYTE: "the engine did not begin its answer in time; "
    "ask for less, or try again later",
    UpstreamFailure.TIMEOUT_IDLE: "the engine stopped sending in the middle of its answer",
    UpstreamFailure.TIMEOUT_TOTAL: "the engine did not end its answer in time; ask for less",
    UpstreamFailure.RESET: "the engine closed the connection before it answered",
    UpstreamFailure.MALFORMED: "the engine's answer is not the HTTP/1.1 this gateway takes; "
    "tell the operator",
    UpstreamFailure.INCOMPLETE: "the engine closed the connection in the middle of its answer",
    UpstreamFailure.STATUS: "the engine refused the request; try again later",
    UpstreamFailure.CLOSED: "the request to the engine was given up",
    UpstreamFailure.UNAVAILABLE: "no engine that could answer is up; try again later",
}


def upstream_failed(error: UpstreamError) -> Refusal:
    """The answer for an engine that failed: 504 if too slow, 503 if none was up, else 502."""
    slow = error.kind.is_timeout
    if error.kind is UpstreamFailure.UNAVAILABLE:
        return Refusal(
            status=503,
            code="engines_unavailable",
            message=_MESSAGES[error.kind],
            end=End.UPSTREAM_ERROR,
            headers=((b"retry-after", b"%d" % (error.retry_after or 1)),),
        )
    return Refusal(
        status=504 if slow else 502,
        code=f"upstream_{error.kind.value}",
        message=_MESSAGES[error.kind],
        end=End.TIMEOUT if slow else End.UPSTREAM_ERROR,
        headers=NEVER_AGAIN if error.kind in _RAN else SOON,
    )


def body_too_large(limits: EdgeLimits) -> Refusal:
    """The answer for a request body over the limit."""
    return Refusal(
        status=413,
        code="request_too_large",
        message=f"the request body is too large: expected at most {limits.body_bytes} bytes; "
        "send less",
        end=End.LIMIT,
    )


def body_too_slow(limits: EdgeLimits) -> Refusal:
    """The answer for a request body that does not arrive."""
    return Refusal(
        status=408,
        code="request_timeout",
        message=f"the request body did not arrive in {limits.body_seconds:g} seconds",
        end=End.TIMEOUT,
    )


def answer_too_large(limits: EdgeLimits) -> Refusal:
    """The answer for an engine's plain answer over the limit."""
    return Refusal(
        status=502,
        code="response_too_large",
        message=f"the engine's answer is too large: expected at most {limits.response_bytes} "
        "bytes; ask for less, or for a stream",
        end=End.LIMIT,
        headers=NEVER_AGAIN,
    )


NO_ENGINE_FOR_MODEL: Final = Refusal(
    status=404,
    code="model_not_found",
    message="no engine behind this gateway serves the model; see GET /v1/models for those there "
    "are",
    param="model",
)

STREAM_BROKE: Final = Refusal(
    status=502,
    code="upstream_incomplete",
    message="the engine's stream ended without its terminal event, or held lines that only the "
    "gateway may write; the receipt says what was delivered",
    end=End.UPSTREAM_ERROR,
)

INTERNAL: Final = Refusal(
    status=500,
    code="internal_error",
    message="the gateway failed; the receipt says what was done. Tell the operator the receipt id",
    end=End.GATEWAY_FAILURE,
    headers=NEVER_AGAIN,
)

FAILED: Final = Refusal(
    status=500,
    code="internal_error",
    message="the gateway failed before it could serve the request; tell the operator",
    headers=NEVER_AGAIN,
)
"""For a failure outside of a receipted request."""

STOPPING: Final = Refusal(
    status=503,
    code="gateway_stopping",
    message="the gateway stops and the request took longer than it may wait; send it again",
    end=End.GATEWAY_FAILURE,
    headers=SOON,
)

NOT_SEALED: Final = Refusal(
    status=503,
    code="receipt_unavailable",
    message="the answer was discarded because it has no durable receipt; the work may have been "
    "done. Tell the operator the receipt id; /readyz says whether the gateway still serves",
    end=End.GATEWAY_FAILURE,
    headers=NEVER_AGAIN,
)

NO_NOTARY: Final = Refusal(
    status=503,
    code="notary_unavailable",
    message="the gateway cannot issue receipts now, so it answers nothing; try again later",
    headers=((b"retry-after", b"5"),),
)

OVERLOADED: Final = tuple(
    Refusal(
        status=503,
        code="overloaded",
        message="the gateway has as many requests under way as it may; nothing of this one was "
        "done or recorded, try again later",
        headers=((b"retry-after", b"%d" % seconds),),
    )
    for seconds in (1, 2, 3)
)
"""To be given in turn, so that those who were turned away together do not come back together."""

BODY_HAS_NO_ROOM: Final = Refusal(
    status=503,
    code="no_memory",
    message="the gateway holds as many bodies and answers as it may; try again later",
    end=End.LIMIT,
    headers=SOON,
)

ANSWER_HAS_NO_ROOM: Final = Refusal(
    status=503,
    code="no_memory_for_answer",
    message="the engine answered, but the gateway holds as many bodies and answers as it may; "
    "ask for less, or for a stream",
    end=End.LIMIT,
    headers=NEVER_AGAIN,
)

TOO_MANY_CONNECTIONS: Final = Refusal(
    status=503,
    code="too_many_connections",
    message="the gateway holds as many connections as it may; use fewer, or try again later",
    headers=SOON,
)

TOO_MANY_REFUSALS: Final = Refusal(
    status=429,
    code="too_many_refusals",
    message="too many requests of this key were refused; wait, and send what the errors ask for",
    headers=((b"retry-after", b"1"),),
)

NO_SLOT: Final = Refusal(
    status=429,
    code="concurrency",
    message="this key has as many requests running as its grant allows; wait for one to end",
    headers=((b"retry-after", b"1"),),
)

NO_ROUTE_GRANT: Final = Refusal(
    status=403,
    code="route_not_granted",
    message="this key has no grant for this route; ask the operator for one",
)

UNAUTHENTICATED: Final = Refusal(
    status=401,
    code="invalid_api_key",
    message="the request has no key this gateway knows: expected Authorization: Bearer <key> or "
    "x-api-key: <key>, one of them once, neither expired nor revoked",
    headers=((b"www-authenticate", b"Bearer"),),
)

NOT_FOUND: Final = Refusal(
    status=404,
    code="not_found",
    message="there is no such route; see the documentation for the list",
)

METHOD: Final = Refusal(
    status=405,
    code="method_not_allowed",
    message="this route takes POST only",
    headers=((b"allow", b"POST"),),
)
