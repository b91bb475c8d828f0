"""Callers with identities of their own: tokens of configured issuers, mapped to grants.

    token ─► issuer by `iss` ─► key by `kid` ─► signature, claims ─► first rule that fits ─► grant

Nobody is let in whom no rule names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from attestation.errors import EvidenceError, MalformedError
from gateway.access.bearer import parse_bearer_token, verify_bearer_token
from gateway.access.principal import Principal, identity_of

if TYPE_CHECKING:
    from gateway.access.bearer import Keys, TokenProfile
    from gateway.access.principal import Grant

REQUIRED: Final = frozenset(("iss", "aud", "exp", "iat", "sub"))
_MAX_KEPT: Final = 4096

Claim = str | int | bool


class Denial(StrEnum):
    """Why a caller is nobody: as much as it may be told."""

    NO_KEY = "no_key"
    TOKEN = "token"  # noqa: S105 - the name of a reason
    EXPIRED = "expired"
    NO_RULE = "no_rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who may make tokens: the profile of its tokens and its public keys by `kid`."""

    profile: TokenProfile
    keys: Keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The grant of an issuer's tokens with all of these claims.

    A claim fits if it has this value and type, or is a list that holds it.  `label` is for
    operators.
    """

    issuer: str
    claims: tuple[tuple[str, Claim], ...]
    grant: Grant
    label: str

    def fits(self, claims: dict[str, Any]) -> bool:
        """Whether a verified token with these claims gets this rule's grant."""
        return claims["iss"] == self.issuer and all(
            _has(claims.get(name), value) for name, value in self.claims
        )


class TokenVerifier:
    """Tells who presents a token; `now` gives Unix seconds that never go back.

    A verified token is remembered by its SHA-256 until it expires, and never itself; at most
    4096 are.
    """

    def __init__(
        self, issuers: tuple[Issuer, ...], rules: tuple[Rule, ...], now: Callable[[], int]
    ) -> None:
        self._issuers = {issuer.profile.issuer: issuer for issuer in issuers}
        self._rules = rules
        self._now = now
        self._kept: dict[bytes, tuple[float, Principal]] = {}

    def identify(self, token: bytes) -> Principal | Denial:
        """Return the caller that this token speaks for, or why there is none.

        That a token has expired is told only of one that was genuine.
        """
        digest = hashlib.sha256(token).digest()
        now = self._now()
        kept = self._kept.get(digest)
        if kept is not None:
            if now < kept[0]:
                return kept[1]
            del self._kept[digest]
        try:
            found = self._verify(token, now)
        except MalformedError:
            return Denial.TOKEN
        except EvidenceError as error:
            return Denial.EXPIRED if error.code == "expired" else Denial.TOKEN
        if found is None:
            return Denial.NO_RULE
        if len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[digest] = found
        return found[1]

    def _verify(self, token: bytes, now: int) -> tuple[float, Principal] | None:
        """The caller and until when it is one, None without a rule for it."""
        parsed = parse_bearer_token(token)
        claims = parsed.claims
        named = claims.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise EvidenceError("the token is of no issuer that is known", code="iss")
        verify_bearer_token(parsed, issuer.keys, issuer.profile, now)
        rule = next((rule for rule in self._rules if rule.fits(claims)), None)
        if rule is None or (rule.grant.expires is not None and now >= rule.grant.expires):
            return None
        until = claims["exp"] + issuer.profile.leeway
        if rule.grant.expires is not None:
            until = min(until, rule.grant.expires)
        sub = identity_of(claims["iss"], claims["sub"])
        return until, Principal(sub=sub, grant=rule.grant, label=rule.label)


def _has(claim: Any, value: Claim) -> bool:  # noqa: ANN401 - JSON of any shape
    # True == 1 in Python, and is another value in JSON.
    several = claim if isinstance(claim, list) else [claim]
    return any(type(one) is type(value) and one == value for one in several)
