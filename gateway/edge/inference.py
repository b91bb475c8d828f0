"""The inference routes as one raw ASGI callable.

1. The path must be a route and the method POST.
2. The key is authenticated; without one there is an answer in the route's own form, a count, and
   no receipt.
3. The request is announced to the notary, before anything of it is parsed or forwarded.
4. From there on a `Conversation` serves it and ends it in exactly one receipt.
"""

from __future__ import annotations

import secrets
from time import monotonic
from typing import TYPE_CHECKING

from attestation.receipt.claims import ALLOWED, UNDECIDED, End
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import Exchange
from gateway.access.denials import refusal_of
from gateway.access.principal import Principal
from gateway.edge import failures
from gateway.edge.caller import Caller
from gateway.edge.conversation import Conversation, ConversationParts
from gateway.edge.errors import JSON, Refusal, error_body
from gateway.edge.headers import read_head
from gateway.edge.limits import EdgeLimits
from gateway.edge.routes import inference_path
from gateway.edge.salt import BodyRewriter
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Announcement
from gateway.telemetry.edge import EdgeMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.access.slots import RefusalBudget
    from gateway.access.store import KeyStore
    from gateway.edge.caller import Receive, Scope, Send
    from gateway.edge.headers import RequestHead
    from gateway.notary.interface import Notary
    from gateway.upstream import Upstream

    Headers = tuple[tuple[bytes, bytes], ...]

_METHOD = "POST"
_FREE = (ALLOWED, UNDECIDED)


def _ignore(_error: BaseException) -> None:
    """Report to nobody."""


class InferenceRoutes:
    """Serves every route of `gateway.edge.routes`; anything else gets 404."""

    def __init__(  # noqa: PLR0913  (everything that requests are served with)
        self,
        *,
        keys: KeyStore,
        notary: Notary,
        upstream: Upstream,
        limits: EdgeLimits | None = None,
        engine_name: str | None = None,
        refusals: RefusalBudget | None = None,
        report: Callable[[BaseException], None] = _ignore,
        metrics: EdgeMetrics | None = None,
        rewrite: BodyRewriter | None = None,
    ) -> None:
        """`refusals` bounds how many refusals a second and key get a receipt (None: all of
        them); `engine_name` is what receipts call the engine; `report` is told the gateway's own
        failures and must not record their texts; without `rewrite` no body is changed.
        """
        self._keys = keys
        self._notary = notary
        self._limits = limits or EdgeLimits()
        self._refusals = refusals
        self._report = report
        self._metrics = metrics or EdgeMetrics()
        self._parts = ConversationParts(
            notary=notary,
            upstream=upstream,
            limits=self._limits,
            engine_name=engine_name,
            report=report,
            metrics=self._metrics,
            rewrite=rewrite or BodyRewriter("off", b""),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request (ASGI 3)."""
        caller = Caller(scope, receive, send)
        path = inference_path(scope)
        if path is None:
            await _answer(caller, scope["path"], failures.NOT_FOUND)
        elif scope["method"] != _METHOD:
            await _answer(caller, path, failures.METHOD)
        else:
            await self._authenticate(scope, path, caller)

    async def _authenticate(self, scope: Scope, path: str, caller: Caller) -> None:
        principal = self._keys.identify(scope["headers"])
        if not isinstance(principal, Principal):
            self._notary.count_unauthenticated()
            await _answer(caller, path, refusal_of(principal))
            return
        jti = secrets.token_hex(16)
        headers = self._common_headers(jti)
        if self._refusals is not None and self._refusals.spent(principal.sub):
            self._notary.count_unreceipted()
            self._metrics.shed("refusals")
            await _answer(caller, path, failures.TOO_MANY_REFUSALS, headers)
            return
        head = read_head(scope["headers"], scope["query_string"])
        try:
            self._announce(jti, path, principal, head)
            await self._notary.handed_over()
        except NotaryUnavailable:
            self._metrics.shed("notary")
            await _answer(caller, path, failures.NO_NOTARY, headers)
            return
        await self._converse(jti, path, principal, head, caller)

    def _announce(self, jti: str, path: str, principal: Principal, head: RequestHead) -> None:
        if not self._notary.healthy:
            raise NotaryUnavailable("the notary is not healthy")
        self._notary.announce(
            Announcement(
                jti=jti,
                method=_METHOD,
                path=path,
                sub=principal.sub,
                grant_digest=principal.grant_digest,
                lineage=head.lineage,
            )
        )

    async def _converse(
        self, jti: str, path: str, principal: Principal, head: RequestHead, caller: Caller
    ) -> None:
        exchange = Exchange(
            jti=jti,
            method=_METHOD,
            path=path,
            sub=principal.sub,
            grant_digest=principal.grant_digest,
            dialect=dialect_of(path),
            inline=head.inline,
            nonce=head.nonce,
            lineage=head.lineage,
            max_frame_bytes=self._limits.frame_bytes,
        )
        has_slot = self._keys.slots.acquire(principal)
        if not has_slot:
            self._metrics.shed("concurrency")
        early = _early_refusal(path, principal, head) or (None if has_slot else failures.NO_SLOT)
        headers = self._common_headers(jti)
        limited = principal.grant.quota is not None
        if limited and early is None:
            verdict = self._keys.quotas.admit(principal)
            early, headers = verdict.refusal, headers + verdict.headers
            if early is not None:
                self._metrics.quota_refused(verdict.kind)
        self._metrics.began(path)
        conversation = Conversation(
            parts=self._parts,
            exchange=exchange,
            caller=caller,
            path=path,
            head=head,
            principal=principal,
            common_headers=headers,
            early=early,
        )
        try:
            await conversation.run()
        finally:
            if has_slot:
                self._keys.slots.release(principal)
            if limited:
                self._keys.quotas.charge(principal, conversation.outcome)
            self._note_end(path, caller, conversation)
        outcome = conversation.outcome
        # Too large or too slow a body is a refusal too, whatever `end` calls it.
        if self._refusals is not None and outcome is not None and outcome.decision not in _FREE:
            self._refusals.charge(principal.sub)

    def _note_end(self, path: str, caller: Caller, conversation: Conversation) -> None:
        metrics, outcome = self._metrics, conversation.outcome
        if caller.first_at is not None:
            metrics.first_byte(path, caller.first_at - caller.began_at)
        end = End.GATEWAY_FAILURE if outcome is None else outcome.end
        metrics.ended(path, end, caller.status, monotonic() - caller.began_at)

    def _common_headers(self, jti: str) -> Headers:
        receipt_id = jti.encode("ascii")
        return (
            (b"x-receipt-id", receipt_id),
            (b"x-request-id", receipt_id),
            (b"x-keyset-digest", self._notary.boot.keyset_digest.hex.encode("ascii")),
            (b"cache-control", b"no-store"),
        )


def _early_refusal(path: str, principal: Principal, head: RequestHead) -> Refusal | None:
    if not principal.grant.allows_route(path):
        return failures.NO_ROUTE_GRANT
    return head.refusal


async def _answer(caller: Caller, path: str, refusal: Refusal, headers: Headers = ()) -> None:
    """Answer without a receipt."""
    body = error_body(path, refusal)
    own = ((b"content-type", JSON.encode("ascii")), (b"content-length", b"%d" % len(body)))
    await caller.start(refusal.status, (*headers, *own, *refusal.headers))
    await caller.end(body)
