"""One authenticated request, from its announcement to its one receipt.

    head checks ─► body ─► admission ─► engine ─► plain: buffer, seal, answer
                                              └─► stream: relay, seal, terminal frame

Whatever happens in between ends in exactly one sealed outcome; what the caller is told is
decided before it is sealed, and what depends on the receipt leaves after it is durable.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.edge import failures
from gateway.edge.admission import RefusedError, admit
from gateway.edge.body import read_body
from gateway.edge.caller import CallerGoneError
from gateway.edge.ending import ConversationParts, Ending
from gateway.edge.flow import StreamFlow
from gateway.errors import NotaryUnavailable, UpstreamError

if TYPE_CHECKING:
    from attestation.receipt.exchange import Exchange
    from gateway.access.principal import Principal
    from gateway.edge.caller import Caller
    from gateway.edge.errors import Refusal
    from gateway.edge.headers import RequestHead
    from gateway.upstream import EngineCall, ResponseHead

__all__ = ["Conversation", "ConversationParts"]


class Conversation(Ending):
    """`run` serves the request.

    `common_headers` stand in every answer; `early` is a refusal that was decided on the head.
    """

    def __init__(
        self,
        *,
        parts: ConversationParts,
        exchange: Exchange,
        caller: Caller,
        path: str,
        head: RequestHead,
        principal: Principal,
        common_headers: tuple[tuple[bytes, bytes], ...],
        early: Refusal | None,
    ) -> None:
        super().__init__(
            parts=parts,
            exchange=exchange,
            caller=caller,
            path=path,
            common_headers=common_headers,
        )
        self._head = head
        self._principal = principal
        self._early = early
        self._body: list[bytes] = []
        self._held = 0

    async def run(self) -> None:
        """Serve the request.  Raises nothing; a cancelled request is answered and sealed too."""
        try:
            self._caller.converse()
            await self._serve()
        except CallerGoneError:
            await self._abandon()
        except NotaryUnavailable:
            await self._answer_unsealed()
        except asyncio.CancelledError:
            # Only a server that stops cancels requests, and it waits a moment for what follows.
            await self._fail(failures.STOPPING)
        except Exception as error:  # noqa: BLE001 - a bug must still end in a receipt
            self._parts.report(error)
            await self._fail(failures.INTERNAL)
        finally:
            if self._call is not None:
                self._call.close()
            self._caller.close()
            self._parts.load.let_go(self._held, self._principal.sub.value)

    async def _serve(self) -> None:
        parts = self._body
        # A request that is refused already is hashed for its receipt but not kept.
        sink = self._keep if self._early is None else self._skim
        late = await read_body(self._caller, self._exchange, self._head, self._parts.limits, sink)
        refusal = self._early or late
        if refusal is not None:
            await self._refuse(refusal)
            return
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            admission = admit(
                self._path,
                body,
                self._principal.grant,
                self._parts.limits,
                self._parts.rewrite.salted,
            )
        except RefusedError as error:
            self._exchange.set_model(error.model, engine=self._parts.engine_name)
            await self._refuse(error.refusal)
            return
        self._exchange.set_model(admission.model, engine=self._parts.engine_name)
        if not self._parts.upstream.serves(admission.model):
            await self._refuse(failures.NO_ENGINE_FOR_MODEL)
            return
        self._exchange.decide()
        plan = self._parts.rewrite(
            self._path,
            body,
            admission,
            self._principal.sub,
            task=self._head.lineage.txn,
            jti=self._exchange.jti,
        )
        self._exchange.plan(plan)
        for splice in plan.splices:
            self._parts.metrics.rewritten(splice.code)
        await self._forward(plan.body, admission.model)

    # -- the engine ------------------------------------------------------------------------

    async def _forward(self, body: bytes, model: str | None) -> None:
        try:
            self._call = call = self._parts.upstream.start(
                path=self._path,
                body=body,
                model=model,
                request_id=self._exchange.jti,
                accept=self._head.accept,
                caller=self._principal.sub.value,
            )
            self._caller.watch(call.close)
            answer = await call.head()
        except UpstreamError as error:
            self._require_caller()
            await self._refuse(failures.upstream_failed(error))
            return
        if call.label != self._parts.engine_name:
            self._exchange.set_model(model, engine=call.label)
        if answer.is_event_stream:
            await self._relay_stream(call, answer)
        else:
            await self._relay_plain(call, answer)

    async def _relay_plain(self, call: EngineCall, answer: ResponseHead) -> None:
        exchange, limits = self._exchange, self._parts.limits
        exchange.respond(answer.status, answer.content_type, streaming=False)
        try:
            while data := await call.read():
                exchange.engine(data)
                if exchange.engine_bytes > limits.response_bytes:
                    await self._refuse(failures.answer_too_large(limits))
                    return
                if not self._hold(len(data)):
                    await self._refuse(failures.ANSWER_HAS_NO_ROOM)
                    return
        except UpstreamError as error:
            self._require_caller()
            await self._refuse(failures.upstream_failed(error))
            return
        exchange.engine_end(clean=True)
        self._require_caller()
        self._record_attempts()
        sealed = await self._seal(exchange.finish())
        await self._send_whole(answer.status, answer.content_type, exchange.body, sealed)

    async def _relay_stream(self, call: EngineCall, answer: ResponseHead) -> None:
        exchange, caller = self._exchange, self._caller
        exchange.respond(answer.status, answer.content_type, streaming=True)
        await caller.drained()
        caller.start(answer.status, self._headers(answer.content_type, None))
        failure = None
        try:
            await StreamFlow(exchange, caller).run(call, self._parts.padding)
        except UpstreamError as error:
            self._require_caller()
            failure = failures.upstream_failed(error)
        exchange.engine_end(clean=call.complete)
        self._require_caller()
        await self._end_stream(call, failure)

    def _skim(self, part: bytes) -> bool:
        self._exchange.skim(part)
        return True

    def _keep(self, part: bytes) -> bool:
        self._exchange.receive(part)
        self._body.append(part)
        return self._hold(len(part))

    def _hold(self, count: int) -> bool:
        if not self._parts.load.hold(count, self._principal.sub.value, self._held):
            self._parts.metrics.shed("memory")
            return False
        self._held += count
        return True

    def _require_caller(self) -> None:
        if self._caller.disconnected:
            raise CallerGoneError
