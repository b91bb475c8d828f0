"""What may be told of a request, from its outcome and what its caller was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.lineage.context import parse_traceparent
from gateway.telemetry.requests import RequestEnd

if TYPE_CHECKING:
    from attestation.receipt.outcome import Outcome
    from gateway.edge.caller import Caller

_SAMPLED = 1


def request_end(outcome: Outcome, caller: Caller, seconds: float) -> RequestEnd:
    """Return the summary of a request that has ended.

    One without a `traceparent` is a trace of its own, whose id is the receipt's: a task id is
    the caller's text and stays out of it.
    """
    context, sampled = _trace(caller)
    trace, parent = context or (outcome.jti, "")
    attempts = outcome.attempts
    return RequestEnd(
        receipt=outcome.jti,
        route=outcome.path,
        end=outcome.end,
        decision=outcome.decision,
        status=caller.status,
        seconds=seconds,
        first=None if caller.first_at is None else caller.first_at - caller.began_at,
        engine=attempts[-1].upstream if attempts else "",
        attempts=len(attempts),
        trace=trace,
        span=outcome.lineage.span,
        parent=parent,
        sampled=sampled,
    )


def _trace(caller: Caller) -> tuple[tuple[str, str] | None, bool]:
    """The caller's trace and span, and whether it is sampled; a new trace always is."""
    values = [value for name, value in caller.headers if name == b"traceparent"]
    if len(values) != 1:
        return None, True
    said = values[0].decode("ascii", "replace").strip()
    context = parse_traceparent(said)
    if context is None:
        return None, True
    flags = int(said.split("-")[3], 16)
    return context, bool(flags & _SAMPLED)
