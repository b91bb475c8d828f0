"""The ends of one request: what is sealed, and what the caller is told.

What the caller is told is decided before it is sealed, and what depends on the receipt leaves
after it is durable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from attestation.receipt.block import render_block
from attestation.receipt.claims import End
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import State
from attestation.receipt.text import MAX_MODS
from gateway.edge import failures
from gateway.edge.errors import JSON, Refusal, error_body, error_frame
from gateway.errors import NotaryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.receipt.exchange import Exchange
    from attestation.receipt.outcome import Outcome
    from gateway.edge.caller import Caller
    from gateway.edge.limits import EdgeLimits
    from gateway.edge.overload import Load
    from gateway.edge.padding import StreamPadding
    from gateway.edge.salt import BodyRewriter
    from gateway.edge.waiting import NotaryWaits
    from gateway.notary.interface import Notary, SealedReceipt
    from gateway.telemetry.edge import EdgeMetrics
    from gateway.upstream import EngineCall, Engines

    Headers = tuple[tuple[bytes, bytes], ...]

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


class Ending:
    """How a conversation ends, whatever happened: each end is one receipt.

    `common_headers` stand in every answer; `outcome` is set once the request has ended.
    """

    def __init__(
        self,
        *,
        parts: ConversationParts,
        exchange: Exchange,
        caller: Caller,
        path: str,
        common_headers: Headers,
    ) -> None:
        self._parts = parts
        self._exchange = exchange
        self._caller = caller
        self._path = path
        self._common_headers = common_headers
        self._call: EngineCall | None = None
        self._attempts_recorded = False
        self.outcome: Outcome | None = None

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
