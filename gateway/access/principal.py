"""A caller as the gateway knows it: a digest of its key and what that key may do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from attestation.encoding import jcs
from attestation.encoding.digest import Digest

ANY = "*"
DEFAULT_CONCURRENCY = 64
_SUBJECT_LABEL = b"attested-gateway/key/v1/"


def subject_of(api_key: bytes) -> Digest:
    """Return the identity of an API key: H("attested-gateway/key/v1/" ‖ key), SPEC section 2."""
    return Digest.of(_SUBJECT_LABEL + api_key)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a key may do.

    `routes` are request paths and `models` model ids; the single entry "*" allows all of them
    and an empty tuple allows none.  `concurrency` is how many requests may run at once,
    `expires` the unix second from which the key is refused, or None.
    """

    routes: tuple[str, ...] = (ANY,)
    models: tuple[str, ...] = (ANY,)
    concurrency: int = DEFAULT_CONCURRENCY
    expires: int | None = None

    def allows_route(self, path: str) -> bool:
        """Whether requests to this path are granted."""
        return ANY in self.routes or path in self.routes

    def allows_model(self, model_id: str) -> bool:
        """Whether this model is granted."""
        return ANY in self.models or model_id in self.models

    def to_json(self) -> dict[str, object]:
        """The grant as it is stored and hashed; names are sorted so that order has no meaning."""
        return {
            "concurrency": self.concurrency,
            "expires": self.expires,
            "models": sorted(self.models),
            "routes": sorted(self.routes),
        }

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
