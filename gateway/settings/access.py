"""Settings of who may call: API keys, and issuers whose tokens are let in beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import StrictBool, StrictInt, StrictStr, field_validator, model_validator

from attestation.errors import AttestationError
from gateway.access.grants import parse_budget, require_grant
from gateway.access.key_sets import normal_key_set
from gateway.access.principal import ANY, DEFAULT_CONCURRENCY, Grant, Period, Quota
from gateway.settings.fields import REQUIRED, Section, measured, unmeasured

MAX_ISSUERS = 16
MAX_RULES = 1000
_NAME = r"^[\x21-\x7e]{1,256}$"
_TYP = r"^[A-Za-z0-9][A-Za-z0-9.+/-]{0,63}$"
_LABEL = r"^[A-Za-z0-9._:/@+ -]{0,64}$"
_DAY = 86_400


class IssuerSettings(Section):
    """Who may make tokens that this gateway takes.

    All of it is measured: who makes a token for somebody else's subject is let in as that
    subject, in receipts too, and is handed the openings of its receipts.
    """

    issuer: str = measured(REQUIRED, "iss of its tokens, to the letter", pattern=_NAME)
    audience: str = measured(REQUIRED, "aud that names this gateway", pattern=_NAME)
    jwks: str = measured(REQUIRED, "its public keys, a JWK Set as text; or name a jwks_file")
    typ: str = measured("at+jwt", "typ of its tokens, to the letter", pattern=_TYP)
    max_lifetime: int = measured(3600, "most seconds from iat to exp", ge=60, le=_DAY)
    leeway: int = measured(30, "seconds its clock may be off", ge=0, le=300)

    @field_validator("jwks")
    @classmethod
    def _one_spelling(cls, jwks: str) -> str:
        try:
            return normal_key_set(jwks)
        except AttestationError as error:
            hint = "; jwks is the set itself, jwks_file names a file that holds it"
            raise ValueError(_told(error) + hint) from None


class RuleSettings(Section):
    """The grant of an issuer's tokens with certain claims.  The first rule that fits counts."""

    issuer: str = unmeasured(REQUIRED, "issuer whose tokens it is about", pattern=_NAME)
    match: dict[str, StrictStr | StrictBool | StrictInt] = unmeasured(
        REQUIRED, "claims and the values they must have; {} takes every token of the issuer"
    )
    label: str = unmeasured("", "a name for operators, never identity", pattern=_LABEL)
    routes: tuple[str, ...] = unmeasured((ANY,), "paths that may be called")
    models: tuple[str, ...] = unmeasured((ANY,), "models that may be asked for")
    concurrency: int = unmeasured(DEFAULT_CONCURRENCY, "requests of one subject at once")
    requests_per_minute: int | None = unmeasured(None, "requests of one subject")
    tokens_per_minute: int | None = unmeasured(None, "tokens of one subject, in and out")
    token_budget: str | None = unmeasured(None, 'tokens of one subject: "N" in all, or "N/day"')

    @model_validator(mode="after")
    def _is_a_grant(self) -> Self:
        try:
            require_grant(self.grant)
        except AttestationError as error:
            raise ValueError(_told(error)) from None
        return self

    @property
    def grant(self) -> Grant:
        """What callers get for whom this rule is the first that fits."""
        budget, period = None, Period.TOTAL
        if self.token_budget is not None:
            budget, period = parse_budget(self.token_budget)
        quota = Quota(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            token_budget=budget,
            budget_period=period,
        )
        return Grant(
            routes=self.routes,
            models=self.models,
            concurrency=self.concurrency,
            quota=None if quota == Quota() else quota,
        )


class AccessSettings(Section):
    """API keys, and tokens of others."""

    keys_file: Path = unmeasured(REQUIRED, "file of hashed API keys (attested keys add)")
    budgets_file: Path | None = unmeasured(
        None, "file that keeps what was spent of token budgets; without one, in notary.data_dir"
    )
    issuers: tuple[IssuerSettings, ...] = measured(
        (), "issuers whose tokens are let in", max_length=MAX_ISSUERS
    )
    rules: tuple[RuleSettings, ...] = unmeasured(
        (), "grants of their tokens; the first that fits counts", max_length=MAX_RULES
    )

    @model_validator(mode="after")
    def _rules_have_issuers(self) -> Self:
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("expected every issuer once; list all its keys in one jwks")
        if not {rule.issuer for rule in self.rules} <= set(names):
            raise ValueError("a rule names an issuer that is not listed under [[access.issuers]]")
        if not set(names) <= {rule.issuer for rule in self.rules}:
            raise ValueError("an issuer has no rule: nobody would be let in; add [[access.rules]]")
        return self


def _told(error: AttestationError) -> str:
    parts = (
        error.message,
        f"expected {error.expected}" if error.expected else "",
        f"seen {error.observed}" if error.observed else "",
    )
    return "; ".join(filter(None, parts))
