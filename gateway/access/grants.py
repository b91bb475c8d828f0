"""Reading a grant from JSON: closed members, every name and number within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.encoding.members import Members
from attestation.errors import MalformedError, UsageError
from gateway.access.principal import Grant, Period, Quota

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_CONCURRENCY: Final = 100_000
MAX_REQUESTS_PER_MINUTE: Final = 100_000
MAX_TOKENS_PER_MINUTE: Final = 1_000_000_000
MAX_TOKEN_BUDGET: Final = 1_000_000_000_000_000
_ROUTE: Final = r"\*|/[A-Za-z0-9_/-]{1,127}"
_MODEL: Final = r"\*|[A-Za-z0-9._:/@+-]{1,128}"
_MAX_NAMES: Final = 256
_PER_DAY: Final = "/day"


def parse_grant(members: Members) -> Grant:
    """Return the grant in `members`, which nobody else reads.

    A member that is not known is refused, because what it restricts must not be guessed; an
    absent `quota` is none.  Raises `MalformedError`.
    """
    grant = Grant(
        routes=_names(members, "routes", _ROUTE),
        models=_names(members, "models", _MODEL),
        concurrency=members.integer("concurrency", minimum=1, maximum=MAX_CONCURRENCY),
        expires=None if members.is_null("expires") else members.integer("expires"),
        quota=_parse_quota(members.object("quota")) if members.has("quota") else None,
    )
    members.close()
    return grant


def require_grant(grant: Grant) -> Grant:
    """Return `grant` if it can be written down and read again.  Raises `MalformedError`."""
    return parse_grant(Members(grant.to_json(), "the grant"))


def parse_budget(text: str) -> tuple[int, Period]:
    """Return tokens and period of "N" (for ever) or "N/day" (each UTC day).

    Raises `UsageError`.
    """
    digits = text.removesuffix(_PER_DAY)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16):
        raise UsageError(
            "a token budget cannot be read",
            code="token_budget",
            expected="a number of tokens for ever, or for each day (UTC): 5000000 or 100000/day",
        )
    return int(digits), Period.TOTAL if digits == text else Period.DAY


def _parse_quota(members: Members) -> Quota:
    budget = _optional(members, "token_budget", MAX_TOKEN_BUDGET)
    period = Period.TOTAL
    if budget is not None:
        period = Period(members.text("budget_period", choices=_values(Period)))
    quota = Quota(
        requests_per_minute=_optional(members, "requests_per_minute", MAX_REQUESTS_PER_MINUTE),
        tokens_per_minute=_optional(members, "tokens_per_minute", MAX_TOKENS_PER_MINUTE),
        token_budget=budget,
        budget_period=period,
    )
    members.close()
    if quota == Quota():
        raise MalformedError(
            "the grant has a quota that limits nothing",
            code="member_value",
            expected="requests_per_minute, tokens_per_minute or token_budget, or no quota",
        )
    return quota


def _optional(members: Members, name: str, maximum: int) -> int | None:
    return members.integer(name, minimum=1, maximum=maximum) if members.has(name) else None


def _values(kind: type[Period]) -> Collection[str]:
    return tuple(str(member) for member in kind)


def _names(members: Members, name: str, pattern: str) -> tuple[str, ...]:
    listed = members.array(name, max_items=_MAX_NAMES)
    # One reader for one rule: each entry is read as a member of its own.
    return tuple(
        Members({name: item}, "the grant").text(name, pattern=pattern, max_chars=128)
        for item in listed
    )
