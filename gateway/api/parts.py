"""What the control routes are built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.access.denials import refusal_of
from gateway.access.principal import Principal
from gateway.api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from gateway.access.store import KeyStore
    from gateway.edge.salt import BodyRewriter
    from gateway.edge.waiting import NotaryWaits
    from gateway.notary.interface import Notary
    from gateway.upstream import Engines


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlParts:
    """The notary, the keys and the engines a control app answers for.

    `waits` knows whether the notary answers; `conditions` gives the codes of what is not well
    with its machine, see `gateway.notary.conditions`; `rewrite` is what made the rewrites that
    receipts list (None: there are none).
    """

    notary: Notary
    keys: KeyStore
    upstream: Engines
    waits: NotaryWaits | None = None
    conditions: Callable[[], tuple[str, ...]] = tuple
    rewrite: BodyRewriter | None = None


def require_principal(parts: ControlParts, request: Request) -> Principal:
    """Return the caller, or raise the 401 or 403 that says what to send."""
    principal = parts.keys.identify(request.scope["headers"])
    if not isinstance(principal, Principal):
        parts.notary.count_unauthenticated()
        refusal = refusal_of(principal)
        headers = {name.decode("ascii"): value.decode("ascii") for name, value in refusal.headers}
        raise ApiError(refusal.status, refusal.code, refusal.message, headers=headers)
    return principal
