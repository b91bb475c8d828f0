"""A caller as the gateway knows it: a digest of its key or identity, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from attestation.encoding import jcs
from attestation.encoding.digest import Digest

ANY = "*"
DEFAULT_CONCURRENCY = 64
SUBJECT_LABEL = b"attested-gateway/key/v1/"
_IDENTITY_LABEL = b"attested-gateway/jwt/v1/"


def subject_of(api_key: bytes) -> Digest:
    """Return the identity of an API key: H("attested-gateway/key/v1/" ‖ key), SPEC section 2."""
    return Digest.of(SUBJECT_LABEL + api_key)


def identity_of(issuer: str, subject: str) -> Digest:
    """Return the identity of a token's subject, whichever token of it is shown:

    H("attested-gateway/jwt/v1/" ‖ u32be(bytes of iss) ‖ iss ‖ sub), both in UTF-8
    (docs/spec/receipt.md).  No text of an API key has this digest, because the labels differ.
    """
    name = issuer.encode()
    return Digest.of(_IDENTITY_LABEL + len(name).to_bytes(4, "big") + name + subject.encode())


class Period(StrEnum):
    """What a token budget is for: all time, or each day by UTC."""

    TOTAL = "total"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How much a caller may use; None is no limit.  docs/spec/access.md defines each exactly."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    token_budget: int | None = None
    budget_period: Period = Period.TOTAL

    def to_json(self) -> dict[str, object]:
        """The quota as it is stored and hashed: what limits nothing is absent."""
        members: dict[str, object] = {}
        if self.requests_per_minute is not None:
            members["requests_per_minute"] = self.requests_per_minute
        if self.tokens_per_minute is not None:
            members["tokens_per_minute"] = self.tokens_per_minute
        if self.token_budget is not None:
            members |= {"budget_period": str(self.budget_period)}
            members |= {"token_budget": self.token_budget}
        return members


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a key may do.

    `routes` are request paths and `models` model ids; the single entry "*" allows all of them
    and an empty tuple allows none.  `concurrency` is how many requests may run at once,
    `expires` the unix second from which the key is refused, or None.  `quota` is None for a key
    that may use as much as it likes.
    """

    routes: tuple[str, ...] = (ANY,)
    models: tuple[str, ...] = (ANY,)
    concurrency: int = DEFAULT_CONCURRENCY
    expires: int | None = None
    quota: Quota | None = None

    def allows_route(self, path: str) -> bool:
        """Whether requests to this path are granted."""
        return ANY in self.routes or path in self.routes

    def allows_model(self, model_id: str) -> bool:
        """Whether this model is granted."""
        return ANY in self.models or model_id in self.models

    def to_json(self) -> dict[str, object]:
        """The grant as it is stored and hashed; names are sorted so that order has no meaning."""
        members: dict[str, object] = {
            "concurrency": self.concurrency,
            "expires": self.expires,
            "models": sorted(self.models),
            "routes": sorted(self.routes),
        }
        # Absent where there is none: grants keep the digest they had before there were quotas.
        if self.quota is not None:
            members["quota"] = self.quota.to_json()
        return members

    @cached_property
    def digest(self) -> Digest:
        """H(JCS of the grant): the `pol.dig` of the key's receipts."""
        return Digest.of(jcs.canonicalize(self.to_json()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller.  `label` is for operators only and never identity."""

    sub: Digest
    grant: Grant
    label: str

    @property
    def grant_digest(self) -> Digest:
        """The digest of the grant that applied when the caller was authenticated."""
        return self.grant.digest
