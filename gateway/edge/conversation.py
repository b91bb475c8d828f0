"""One authenticated request, from its announcement to its one receipt.

    head checks ─► body ─► admission ─► engine ─► plain: buffer, seal, answer
                                              └─► stream: relay, seal, terminal frame

Whatever happens in between ends in exactly one sealed outcome; what the caller is told is
decided before it is sealed, and what depends on the receipt leaves after it is durable.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from attestation.receipt.block import render_block
from attestation.receipt.claims import End
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import State
from attestation.receipt.text import MAX_MODS
from gateway.edge import failures
from gateway.edge.admission import RefusedError, admit
from gateway.edge.body import read_body
from gateway.edge.caller import CallerGoneError
from gateway.edge.errors import JSON, Refusal, error_body, error_frame
from gateway.errors import NotaryUnavailable, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.exchange import Exchange
    from attestation.receipt.outcome import Outcome
    from gateway.access.principal import Principal
    from gateway.edge.caller import Caller
    from gateway.edge.headers import RequestHead
    from gateway.edge.limits import EdgeLimits
    from gateway.edge.overload import Load
    from gateway.edge.padding import StreamPadding
    from gateway.edge.salt import BodyRewriter
    from gateway.edge.waiting import NotaryWaits
    from gateway.notary.interface import Notary, SealedReceipt
    from gateway.telemetry.edge import EdgeMetrics
    from gateway.upstream import EngineCall, Engines, ResponseHead

_STALL = "stall"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationParts:
    """What every conversation shares.

    `engine_name` is the name and version for receipts of whichever engine answers, None if
    several engines differ in it; `report` is told the failures
    of the gateway itself and must not record their texts; `rewrite` makes of an admitted body
    what goes to the engine.
    """

    notary: Notary
    upstream: Engines
    limits: EdgeLimits
    engine_name: str | None
    report: Callable[[BaseException], None]
    metrics: EdgeMetrics
    rewrite: BodyRewriter
    padding: StreamPadding
    waits: NotaryWaits
    load: Load


class Conversation:
    """`run` serves the request; `outcome` is set once it has ended, `sealed` once it is durable.

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
        self._parts = parts
        self._exchange = exchange
        self._caller = caller
        self._path = path
        self._head = head
        self._principal = principal
        self._common_headers = common_headers
        self._early = early
        self._call: EngineCall | None = None
        self._body: list[bytes] = []
        self._held = 0
        self._attempts_recorded = False
        self.outcome: Outcome | None = None

    async def run(self) -> None:
        """Serve the request.  Raises nothing; a cancelled request is answered and sealed too."""
        self._caller.converse()
        try:
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
        read = self._parts.padding.reading(call.read)
        try:
            data = await read()
            caller.began_answer()
            while data:
                piece = exchange.engine(data)
                if piece:
                    if not caller.pass_on(piece):
                        raise CallerGoneError
                    exchange.taken(piece)
                    if caller.blocked:
                        # Before more is taken from the engine, so that less waits in here.
                        await caller.drained()
                if exchange.broken:
                    break
                data = await read()
        except UpstreamError as error:
            self._require_caller()
            failure = failures.upstream_failed(error)
        exchange.engine_end(clean=call.complete)
        self._require_caller()
        await self._end_stream(call, failure)

    async def _end_stream(self, call: EngineCall, failure: Refusal | None) -> None:
        """Seal, then release the terminal frame: the engine's, or ours if it sent none."""
        exchange = self._exchange
        frame = error_frame(dialect_of(self._path), failure or failures.STREAM_BROKE)
        self._record_attempts()
        end = End.COMPLETE if failure is None else failure.end
        outcome = exchange.finish(end, error_frame=frame)
        if outcome.end is End.COMPLETE:
            call.was_whole()
        elif failure is None:
            call.was_cut_short()
        await self._end_with(outcome)

    async def _end_with(self, outcome: Outcome) -> None:
        """Seal a stream's outcome, then send what is still owed, block and terminal frame."""
        sealed = await self._seal(outcome)
        block = b""
        if outcome.block_offset is not None:
            block = render_block(sealed.token, sealed.openings)
        # A piece is owed when its sender was cancelled while the caller took nothing.
        await self._caller.drained()
        self._caller.end(self._exchange.owed + block + self._exchange.terminal)

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

    def _record_attempts(self) -> None:
        if self._call is None or self._attempts_recorded:
            return
        # A failure of the gateway after this ends in another ending, which would record them again.
        self._attempts_recorded = True
        for attempt in self._call.attempts:
            self._parts.metrics.attempt(attempt.up, attempt.out, attempt.ms / 1000)
            self._exchange.attempt(
                attempt.up,
                local=attempt.local,
                outcome=attempt.out,
                milliseconds=attempt.ms,
            )

    # -- endings ---------------------------------------------------------------------------

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer in the gateway's own name, with a receipt."""
        exchange = self._exchange
        if self._call is not None:
            self._call.close()
            self._record_attempts()
        elif exchange.state is not State.PLANNED:
            exchange.decide(refusal.code)
        body = error_body(self._path, refusal)
        exchange.answer(refusal.status, JSON, body)
        sealed = await self._seal(exchange.finish(refusal.end))
        await self._send_whole(refusal.status, JSON, body, sealed, refusal.headers)

    async def _abandon(self) -> None:
        """The caller left: the engine stops at once, the receipt says how far it got."""
        if self._call is not None:
            self._call.close()
            self._record_attempts()
        try:
            outcome = self._exchange.finish(End.CLIENT_ABORT)
            if self._caller.stalled:
                # Cut by us, not by the caller; a receipt takes so many codes and no more.
                outcome = replace(outcome, mods=(_STALL, *outcome.mods)[:MAX_MODS])
            await self._seal(outcome)
        except NotaryUnavailable:
            # Nobody is left to be told; the boot has ended.
            return

    async def _fail(self, failure: Refusal) -> None:
        """End what cannot go on: say so to the caller and in the receipt."""
        exchange = self._exchange
        if exchange.state is State.FINISHED:
            # The receipt exists or never will; an answer cut short is all that is left.
            return
        try:
            if self._call is not None:
                self._call.close()
                self._record_attempts()
            if self._caller.response_started:
                frame = error_frame(dialect_of(self._path), failure)
                await self._end_with(exchange.finish(failure.end, error_frame=frame))
            else:
                body = error_body(self._path, failure)
                exchange.answer(failure.status, JSON, body)
                sealed = await self._seal(exchange.finish(failure.end))
                await self._send_whole(failure.status, JSON, body, sealed, failure.headers)
        except NotaryUnavailable:
            await self._answer_unsealed()
        except Exception as error:  # noqa: BLE001 - nothing is left to fall back on
            # The notary seals the request when it closes; nothing leaves without a receipt.
            self._parts.report(error)
            await self._answer_unsealed()

    async def _answer_unsealed(self) -> None:
        """No receipt, no answer: 503 if nothing was sent yet, else the stream is cut.

        A stream is cut by returning before its end; the server then closes the connection.
        """
        self._parts.metrics.unsealed()
        if self._caller.response_started:
            return
        body = error_body(self._path, failures.NOT_SEALED)
        await self._send_whole(
            failures.NOT_SEALED.status, JSON, body, None, failures.NOT_SEALED.headers
        )

    async def _seal(self, outcome: Outcome) -> SealedReceipt:
        self.outcome = outcome
        began = monotonic()
        try:
            sealed = await self._parts.waits.wait(self._parts.notary.seal(outcome))
            self._parts.metrics.sealed(monotonic() - began)
            return sealed
        except NotaryUnavailable:
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever else a notary fails with, there is no receipt, so there is no answer.
            self._parts.report(error)
            raise NotaryUnavailable("the receipt was not sealed") from None

    # -- answers ---------------------------------------------------------------------------

    async def _send_whole(
        self,
        status: int,
        content_type: str | None,
        body: bytes,
        sealed: SealedReceipt | None,
        extra: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        headers = self._headers(content_type, sealed)
        headers.extend(extra)
        await self._caller.drained()
        self._caller.answer(status, headers, body)

    def _headers(
        self, content_type: str | None, sealed: SealedReceipt | None
    ) -> list[tuple[bytes, bytes]]:
        headers = list(self._common_headers)
        if content_type is not None:
            headers.append((b"content-type", content_type.encode("ascii")))
        if sealed is not None and self._exchange.inline:
            headers.append((b"x-receipt", sealed.token.encode("ascii")))
            headers.append((b"x-receipt-openings", sealed.openings.encode_header().encode("ascii")))
        return headers
