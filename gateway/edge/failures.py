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
    UpstreamFailure.CLOSED: "the request to the engine was given up",
}


def upstream_failed(error: UpstreamError) -> Refusal:
    """The answer for an engine that failed: 504 if it was too slow, else 502."""
    slow = error.kind.is_timeout
    return Refusal(
        status=504 if slow else 502,
        code=f"upstream_{error.kind.value}",
        message=_MESSAGES[error.kind],
        end=End.TIMEOUT if slow else End.UPSTREAM_ERROR,
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
)

STOPPING: Final = Refusal(
    status=503,
    code="gateway_stopping",
    message="the gateway stops and the request took longer than it may wait; send it again",
    end=End.GATEWAY_FAILURE,
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
