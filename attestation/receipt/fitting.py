"""Keeping a receipt within its 4 KiB, whatever the caller, the engine and the operator named.

Only a call with many parents can come near the limit.  Then facts that the engine reported or
the gateway noted are left out, one after the other; what the caller declared, what was
committed to and how it ended never is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.claims import ReceiptClaims

# A token is base64url of header (130 characters), payload and signature (86), and two dots.
MAX_PAYLOAD_BYTES: Final = (4096 - 130 - 86 - 2) * 3 // 4
PARENTS_THAT_ALWAYS_FIT: Final = 2


def fit_claims(claims: ReceiptClaims) -> ReceiptClaims:
    """Return the claims, or a copy that leaves out as little as makes them fit, in this order:
    attempts but the last; the served model; finish reasons but "error"; token counts; the
    engine's name; the content types; the last attempt.
    """
    if len(claims.lineage.parents) <= PARENTS_THAT_ALWAYS_FIT:
        return claims
    for leave_out in _LEAVE_OUT:
        if len(claims.encode()) <= MAX_PAYLOAD_BYTES:
            break
        claims = leave_out(claims)
    return claims


def _earlier_attempts(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(claims, attempts=claims.attempts[-1:])


def _attempts(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(claims, attempts=())


def _served(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(claims, model=replace(claims.model, served=None))


def _finish_reasons(claims: ReceiptClaims) -> ReceiptClaims:
    kept = tuple(reason for reason in claims.response.finish_reasons if reason == "error")
    return replace(claims, response=replace(claims.response, finish_reasons=kept))


def _usage(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(claims, usage=None)


def _engine(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(claims, model=replace(claims.model, engine=None))


def _content_types(claims: ReceiptClaims) -> ReceiptClaims:
    return replace(
        claims,
        request=replace(claims.request, content_type=None),
        response=replace(claims.response, content_type=None),
    )


_LEAVE_OUT: Final[tuple[Callable[[ReceiptClaims], ReceiptClaims], ...]] = (
    _earlier_attempts,
    _served,
    _finish_reasons,
    _usage,
    _engine,
    _content_types,
    _attempts,
)
