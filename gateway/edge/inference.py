"""The inference routes, called by the connection itself.

1. The path must be a route and the method POST.
2. The key is authenticated; without one there is an answer in the route's own form, a count, and
   no receipt.
3. The request is announced to the notary, before anything of it is parsed or forwarded.
4. From there on a `Conversation` serves it and ends it in exactly one receipt.  If there never is
   one, or it ends without an outcome, the request is forsaken: sealed as one that nobody served.
"""

from __future__ import annotations

from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING

from attestation.receipt.claims import ALLOWED, UNDECIDED, End
from gateway.access.denials import refusal_of
from gateway.access.principal import Principal
from gateway.edge import failures
from gateway.edge.announcing import Announcing, exchange_of
from gateway.edge.conversation import Conversation, ConversationParts
from gateway.edge.errors import JSON, Refusal, error_body, refuse
from gateway.edge.ids import BlockDraw
from gateway.edge.limits import EdgeLimits
from gateway.edge.overload import Load
from gateway.edge.padding import UNPADDED, StreamPadding
from gateway.edge.repeats import head_of, identified
from gateway.edge.routes import inference_path
from gateway.edge.salt import BodyRewriter
from gateway.edge.summary import request_end
from gateway.edge.waiting import NotaryWaits
from gateway.errors import NotaryUnavailable
from gateway.telemetry.edge import EdgeMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

    from gateway.access.slots import RefusalBudget
    from gateway.access.store import KeyStore
    from gateway.edge.caller import Caller, Receive, Scope, Send
    from gateway.edge.headers import RequestHead
    from gateway.notary.interface import Announcement, Notary
    from gateway.telemetry.requests import Observe
    from gateway.upstream import Engines

    Headers = tuple[tuple[bytes, bytes], ...]
    Begun = tuple[Announcement | None, Coroutine[Any, Any, None]]

_JSON = JSON.encode("ascii")
_ID_DIGITS = 32
_FREE = (ALLOWED, UNDECIDED)


def _ignore(_error: BaseException) -> None:
    """Report to nobody."""


@coroutine
def _task() -> Generator[None, None, None]:
    yield  # to whoever makes a task of the coroutine


class InferenceRoutes:
    """Serves every route of `gateway.edge.routes`; anything else gets 404."""

    def __init__(  # noqa: PLR0913  (everything that requests are served with)
        self,
        *,
        keys: KeyStore,
        notary: Notary,
        upstream: Engines,
        limits: EdgeLimits | None = None,
        engine_name: str | None = None,
        refusals: RefusalBudget | None = None,
        report: Callable[[BaseException], None] = _ignore,
        metrics: EdgeMetrics | None = None,
        rewrite: BodyRewriter | None = None,
        padding: StreamPadding = UNPADDED,
        waits: NotaryWaits | None = None,
        observe: Observe | None = None,
    ) -> None:
        """`refusals` bounds how many refusals a second and key get a receipt (None: all of
        them); `engine_name` is what receipts call the engine; `report` is told the gateway's own
        failures and must not record their texts; without `rewrite` no body is changed.
        """
        self._keys = keys
        self._notary = notary
        self._limits = limits or EdgeLimits()
        self._load = Load(self._limits)
        self._turned_away = 0
        self._draw = BlockDraw()
        self._refusals = refusals
        self._report = report
        self._metrics = metrics or EdgeMetrics()
        self._waits = waits or NotaryWaits(notary)
        self._announcing = Announcing(notary, self._waits)
        self._observe = observe
        self._shaping = padding.shaping
        self._parts = ConversationParts(
            notary=notary,
            upstream=upstream,
            limits=self._limits,
            engine_name=engine_name,
            report=report,
            metrics=self._metrics,
            rewrite=rewrite or BodyRewriter("off", b""),
            padding=padding,
            waits=self._waits,
            load=self._load,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Answer what is none of these routes, or not a POST (ASGI 3); see `converse`."""
        path = inference_path(scope)
        refusal = failures.NOT_FOUND if path is None else failures.METHOD
        await refuse(send, scope["path"] if path is None else path, refusal)

    def converse(self, caller: Caller) -> Coroutine[Any, Any, None]:
        """Take a POST to one of these routes, whose body may still be coming.

        Authenticates and announces at once, so that what came in one turn of the event loop is
        announced in one piece; what is returned serves the request and is to be run as a task.
        Neither raises anything.
        """
        if not self._load.enter():
            return self._turn_away(caller)
        announced = None
        try:
            announced, serving = self._begin(caller)
        except Exception as error:  # noqa: BLE001 - a bug must not look like the caller's mistake
            self._report(error)
            caller.fail()
            serving = caller.drained()
        guarded = self._guard(caller, serving, announced)
        # A task that is cancelled before it begins runs nothing of a coroutine that has not begun.
        guarded.send(None)
        return guarded

    async def _guard(
        self,
        caller: Caller,
        serving: Coroutine[Any, Any, None],
        announced: Announcement | None,
    ) -> None:
        """Serve; what is `announced` is seen to here until `serving` does that itself."""
        try:
            await _task()
            announced = None
            await serving
        except Exception as error:  # noqa: BLE001 - asyncio would print a traceback, with content
            self._report(error)
            caller.fail()
        finally:
            self._load.leave()
            caller.finish()
            serving.close()  # which may never have begun
            if announced is not None:
                self._announcing.forsake(announced)

    async def _turn_away(self, caller: Caller) -> None:
        """Answer a request that is one too many, without asking whose it is."""
        self._metrics.shed("requests")
        self._turned_away += 1
        refusal = failures.OVERLOADED[self._turned_away % len(failures.OVERLOADED)]
        try:
            await _answer(caller, refusal)
        except Exception as error:  # noqa: BLE001 - as in `_guard`
            self._report(error)
            caller.fail()
        finally:
            caller.finish()

    def _begin(self, caller: Caller) -> Begun:
        """Return what serves the request, and how it was announced if it was."""
        principal = identified(self._keys, caller)
        if not isinstance(principal, Principal):
            self._notary.count_unauthenticated()
            return None, _answer(caller, refusal_of(principal))
        jti = self._draw(_ID_DIGITS)
        headers = self._common_headers(jti)
        if self._refusals is not None and self._refusals.spent(principal.sub):
            self._notary.count_unreceipted()
            self._metrics.shed("refusals")
            return None, _answer(caller, failures.TOO_MANY_REFUSALS, headers)
        head = head_of(caller, principal, self._draw)
        try:
            announced = self._announcing.announce(jti, caller.path, principal, head)
        except NotaryUnavailable:
            self._metrics.shed("notary")
            return None, _answer(caller, failures.NO_NOTARY, headers)
        return announced, self._converse(announced, principal, head, headers, caller)

    async def _converse(
        self,
        announced: Announcement,
        principal: Principal,
        head: RequestHead,
        headers: Headers,
        caller: Caller,
    ) -> None:
        try:
            if not self._notary.hand_over():
                await self._waits.wait(self._notary.handed_over())
        except BaseException as error:
            self._announcing.forsake(announced)
            if not isinstance(error, NotaryUnavailable):
                raise
            self._metrics.shed("notary")
            await _answer(caller, failures.NO_NOTARY, headers)
            return
        has_slot, conversation = False, None
        try:
            has_slot = self._keys.slots.acquire(principal)
            conversation = self._conversation(
                announced, principal, head, headers, caller, has_slot=has_slot
            )
            await self._run(conversation, principal, caller)
        finally:
            if conversation is None or conversation.outcome is None:
                self._announcing.forsake(announced)
            if has_slot:
                self._keys.slots.release(principal)

    def _conversation(
        self,
        announced: Announcement,
        principal: Principal,
        head: RequestHead,
        headers: Headers,
        caller: Caller,
        *,
        has_slot: bool,
    ) -> Conversation:
        early = self._early_refusal(principal, head, caller.path, has_slot=has_slot)
        if early is None and principal.grant.quota is not None:
            verdict = self._keys.quotas.admit(principal)
            early, headers = verdict.refusal, headers + verdict.headers
            if early is not None:
                self._metrics.quota_refused(verdict.kind)
        self._metrics.began(caller.path)
        return Conversation(
            parts=self._parts,
            exchange=exchange_of(announced, head, self._limits.frame_bytes, self._shaping),
            caller=caller,
            path=caller.path,
            head=head,
            principal=principal,
            common_headers=headers,
            early=early,
        )

    def _early_refusal(
        self, principal: Principal, head: RequestHead, path: str, *, has_slot: bool
    ) -> Refusal | None:
        if not has_slot:
            self._metrics.shed("concurrency")
        if not principal.grant.allows_route(path):
            return failures.NO_ROUTE_GRANT
        return head.refusal or (None if has_slot else failures.NO_SLOT)

    async def _run(self, conversation: Conversation, principal: Principal, caller: Caller) -> None:
        try:
            await conversation.run()
        finally:
            if principal.grant.quota is not None:
                self._keys.quotas.charge(principal, conversation.outcome)
            self._note_end(caller.path, caller, conversation)
        outcome = conversation.outcome
        # Too large or too slow a body is a refusal too, whatever `end` calls it.
        if self._refusals is not None and outcome is not None and outcome.decision not in _FREE:
            self._refusals.charge(principal.sub)

    def _note_end(self, path: str, caller: Caller, conversation: Conversation) -> None:
        metrics, outcome = self._metrics, conversation.outcome
        if caller.first_at is not None:
            metrics.first_byte(path, caller.first_at - caller.began_at)
        end = End.GATEWAY_FAILURE if outcome is None else outcome.end
        seconds = monotonic() - caller.began_at
        metrics.ended(path, end, caller.status, seconds)
        if self._observe is not None and outcome is not None:
            self._observe(request_end(outcome, caller, seconds))

    def _common_headers(self, jti: str) -> Headers:
        receipt_id = jti.encode("ascii")
        return (
            (b"x-receipt-id", receipt_id),
            (b"x-request-id", receipt_id),
            (b"x-keyset-digest", self._notary.boot.keyset_digest.hex.encode("ascii")),
            (b"cache-control", b"no-store"),
        )


async def _answer(caller: Caller, refusal: Refusal, headers: Headers = ()) -> None:
    """Answer without a receipt."""
    body = error_body(caller.path, refusal)
    await caller.drained()
    own = (b"content-type", _JSON)
    caller.answer(refusal.status, (*headers, own, *refusal.headers), body)
