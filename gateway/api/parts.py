"""What the control routes are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.api.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from gateway.access.principal import Principal
    from gateway.access.store import KeyStore
    from gateway.notary.interface import Notary
    from gateway.upstream.client import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParts:
    """The notary, the keys and the engine a control app answers for."""

    notary: Notary
    keys: KeyStore
    upstream: Upstream


def require_principal(parts: ControlParts, request: Request) -> Principal:
    """Return the caller, or raise the 401 that says how to send a key."""
    principal = parts.keys.authenticate(request.scope["headers"])
    if principal is None:
        parts.notary.count_unauthenticated()
        raise ApiError(
            401,
            "invalid_api_key",
            "no accepted API key: send one as Authorization: Bearer or x-api-key",
            headers={"www-authenticate": "Bearer"},
        )
    return principal
