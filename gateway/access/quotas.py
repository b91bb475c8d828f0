"""Quotas of callers: requests and tokens a minute, and token budgets.

Both limits a minute are token buckets that hold one minute's worth and refill steadily
(docs/spec/access.md).  A bucket is kept as the time at which it is full again, so that nothing
has to be done while nobody calls.  The state is one for all workers (`quota_table`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from attestation.receipt.claims import ALLOWED
from gateway.access.principal import Period
from gateway.access.quota_table import FOREVER
from gateway.edge.errors import Refusal
from gateway.edge.routes import COUNT_TOKENS, DETOKENIZE, TOKENIZE

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import Outcome
    from gateway.access.principal import Principal, Quota
    from gateway.access.quota_table import QuotaTable, Usage

    Headers = tuple[tuple[bytes, bytes], ...]

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
_DAY_SECONDS: Final = 86_400
_LONGEST_DEBT: Final = _DAY_SECONDS * SECOND
_MOST_SPENT: Final = 1 << 62
_BYTES_PER_TOKEN: Final = 4
_WITHOUT_MODEL: Final = frozenset((COUNT_TOKENS, TOKENIZE, DETOKENIZE))

REQUESTS: Final = "requests"
TOKENS: Final = "tokens"
BUDGET: Final = "budget"
_SHOWN: Final = (b"limit", b"remaining", b"reset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of asking for one request.

    `refusal` is None if it is admitted; `kind` says which limit refused it ("requests",
    "tokens", "budget" or "table").  `headers` are the x-ratelimit-* headers of the answer.
    """

    refusal: Refusal | None = None
    kind: str = ""
    headers: Headers = field(default=())


class Quotas:
    """Admits requests of callers whose grant has a quota, and charges what they used.

    `monotonic` gives nanoseconds that are the same for every process of the machine
    (CLOCK_MONOTONIC); `wall` Unix seconds, of which the latest seen counts.
    """

    def __init__(
        self, table: QuotaTable, *, monotonic: Callable[[], int], wall: Callable[[], float]
    ) -> None:
        self._table = table
        self._monotonic = monotonic
        self._wall = wall

    def admit(self, principal: Principal) -> Verdict:
        """Take one request from the caller's limits, or say why not; then nothing is taken.

        1. the budget: something must be left
        2. requests a minute: one whole request must be in the bucket
        3. tokens a minute: the bucket must hold something, be it less than the answer will cost
        """
        quota = principal.grant.quota
        if quota is None:
            return Verdict()
        self._table.lock(principal.sub)
        try:
            return self._admit(principal.sub, quota)
        finally:
            self._table.unlock(principal.sub)

    def charge(self, principal: Principal, outcome: Outcome | None) -> None:
        """Take the tokens of an ended request: the engine's count, or `tokens_of`'s."""
        quota = principal.grant.quota
        if quota is None or outcome is None:
            return
        tokens = tokens_of(outcome)
        if tokens == 0 or (quota.tokens_per_minute, quota.token_budget) == (None, None):
            return
        self._table.lock(principal.sub)
        try:
            self._charge(principal.sub, quota, tokens)
        finally:
            self._table.unlock(principal.sub)

    def _admit(self, sub: Digest, quota: Quota) -> Verdict:
        now, today = self._monotonic(), self._today()
        usage = self._current(sub, quota, today)
        if quota.token_budget is not None and usage.spent >= quota.token_budget:
            return Verdict(
                refusal=_budget_spent(quota, self._until_tomorrow()),
                kind=BUDGET,
                headers=_headers(quota, usage, now),
            )
        step = 0 if quota.requests_per_minute is None else MINUTE // quota.requests_per_minute
        wait = max(usage.requests_full, now) + step - now - MINUTE
        if step and wait > 0:
            return _wait(REQUESTS, quota, usage, now, wait)
        # One nanosecond more than until it is empty: then it holds something.
        wait = usage.tokens_full - now - MINUTE + 1
        if quota.tokens_per_minute is not None and wait > 0:
            return _wait(TOKENS, quota, usage, now, wait)
        usage.requests_full = max(usage.requests_full, now) + step
        if not self._table.write(sub, usage, today):
            return Verdict(refusal=NO_ROOM, kind="table")
        return Verdict(headers=_headers(quota, usage, now))

    def _charge(self, sub: Digest, quota: Quota, tokens: int) -> None:
        today = self._today()
        usage = self._current(sub, quota, today)
        if quota.tokens_per_minute is not None:
            now = self._monotonic()
            full = max(usage.tokens_full, now) + tokens * MINUTE // quota.tokens_per_minute
            usage.tokens_full = min(full, now + _LONGEST_DEBT)
        if quota.token_budget is not None:
            usage.spent = min(usage.spent + tokens, _MOST_SPENT)
        # No room: nothing of this budget was spent before, and the next request is refused.
        if self._table.write(sub, usage, today) and quota.token_budget is not None:
            self._table.budget_changed(sub)

    def _current(self, sub: Digest, quota: Quota, today: int) -> Usage:
        """What was used, with a budget of the period that is now."""
        usage = self._table.read(sub)
        if quota.token_budget is None:
            # Other tokens of this caller may have a budget, which this one must not begin anew.
            return usage
        day = today if quota.budget_period is Period.DAY else FOREVER
        if usage.day != day:
            usage.day, usage.spent = day, 0
        return usage

    def _today(self) -> int:
        return self._table.latest(int(self._wall())) // _DAY_SECONDS

    def _until_tomorrow(self) -> int:
        return _DAY_SECONDS - self._table.latest(int(self._wall())) % _DAY_SECONDS


def tokens_of(outcome: Outcome) -> int:
    """Return how many tokens a request is charged.

    1. what the engine reports: `total`, or input and output together
    2. nothing, if the request was refused, never left, was answered with an error, or is of a
       route that runs no model
    3. else an estimate: a token for every four bytes of the request begun, and one for each
       event of a stream, or for every four bytes begun of a plain answer
    """
    usage = outcome.usage
    if usage is not None:
        parts = (usage.input or 0) + (usage.output or 0)
        return parts if usage.total is None else usage.total
    ran = outcome.decision == ALLOWED and outcome.attempts and outcome.path not in _WITHOUT_MODEL
    if not ran or (outcome.status is not None and outcome.status >= 400):
        return 0
    asked = 0 if outcome.request is None else _begun(outcome.request.length)
    if outcome.events is not None:
        return asked + outcome.events
    return asked + (0 if outcome.response is None else _begun(outcome.response.length))


def _begun(length: int) -> int:
    return -(-length // _BYTES_PER_TOKEN)


# -- answers -------------------------------------------------------------------------------


NO_ROOM: Final = Refusal(
    status=503,
    code="quota_unavailable",
    message="the gateway keeps as many token budgets as it can; tell the operator",
    headers=((b"retry-after", b"60"),),
)

_NAMES: Final = {
    kind: tuple(b"x-ratelimit-%b-%b" % (what, kind.encode()) for what in _SHOWN)
    for kind in (REQUESTS, TOKENS)
}
_OVER: Final = {
    REQUESTS: ("requests_per_minute", "this key has sent as many requests as it may in a minute"),
    TOKENS: ("tokens_per_minute", "this key has used as many tokens as it may in a minute"),
}


def _wait(kind: str, quota: Quota, usage: Usage, now: int, nanoseconds: int) -> Verdict:
    code, message = _OVER[kind]
    milliseconds = -(-nanoseconds // 1_000_000)
    seconds = -(-nanoseconds // SECOND)
    refusal = Refusal(
        status=429,
        code=code,
        message=f"{message}; send it again in {seconds} seconds",
        headers=(
            (b"retry-after", b"%d" % seconds),
            (b"retry-after-ms", b"%d" % milliseconds),
        ),
    )
    return Verdict(refusal=refusal, kind=kind, headers=_headers(quota, usage, now))


def _budget_spent(quota: Quota, seconds: int) -> Refusal:
    never = (b"x-should-retry", b"false")
    if quota.budget_period is Period.DAY:
        return Refusal(
            status=429,
            code="insufficient_quota",
            message="the tokens of this key for today (UTC) are used up; "
            f"it gets new ones in {seconds} seconds",
            headers=((b"retry-after", b"%d" % seconds), never),
        )
    return Refusal(
        status=429,
        code="insufficient_quota",
        message="the tokens of this key are used up; ask the operator for more",
        headers=(never,),
    )


def _headers(quota: Quota, usage: Usage, now: int) -> Headers:
    headers: Headers = ()
    if quota.requests_per_minute is not None:
        headers += _triple(REQUESTS, quota.requests_per_minute, usage.requests_full - now)
    if quota.tokens_per_minute is not None:
        headers += _triple(TOKENS, quota.tokens_per_minute, usage.tokens_full - now)
    return headers


def _triple(kind: str, limit: int, to_full: int) -> Headers:
    """`to_full` is in how many nanoseconds the bucket is full."""
    to_full = max(0, to_full)
    left = max(0, (MINUTE - to_full) * limit // MINUTE)
    milliseconds = -(-to_full // 1_000_000)
    limit_name, left_name, reset_name = _NAMES[kind]
    return (
        (limit_name, b"%d" % limit),
        (left_name, b"%d" % left),
        (reset_name, b"%d.%03ds" % divmod(milliseconds, 1000)),
    )
