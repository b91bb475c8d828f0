"""What is told to who is nobody: enough to mend an honest mistake, nothing to probe with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.access.issuers import Denial
from gateway.edge import failures
from gateway.edge.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping


def refusal_of(denial: Denial) -> Refusal:
    """Return the answer for a caller that was not let in (RFC 6750 section 3.1)."""
    return _REFUSALS[denial]


_REFUSALS: Final[Mapping[Denial, Refusal]] = {
    Denial.NO_KEY: failures.UNAUTHENTICATED,
    Denial.TOKEN: Refusal(
        status=401,
        code="invalid_token",
        message="the bearer token is not accepted: expected one that an issuer of this gateway "
        "signed for it and that is good now; get a new one, or ask the operator which issuers "
        "and audience are set",
        headers=((b"www-authenticate", b'Bearer error="invalid_token"'),),
    ),
    Denial.EXPIRED: Refusal(
        status=401,
        code="invalid_token",
        message="the bearer token has expired; get a new one",
        headers=(
            (
                b"www-authenticate",
                b'Bearer error="invalid_token", error_description="the token has expired"',
            ),
        ),
    ),
    Denial.NO_RULE: Refusal(
        status=403,
        code="no_grant",
        message="the bearer token is genuine, but no rule of this gateway has a grant for it; "
        "ask the operator for one",
        headers=((b"www-authenticate", b'Bearer error="insufficient_scope"'),),
    ),
}
