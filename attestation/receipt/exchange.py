"""One exchange as a state machine without I/O: bytes in, bytes out, in the end an Outcome.

    RECEIVING ─received─> RECEIVED ─plan─> PLANNED ─respond─> PLAIN  ─engine_end─> PLAIN_DONE
                                                          └─> STREAM ─engine_end─> STREAM_DONE
    any of these but the streams ─answer─> ANSWERED          every state ─finish─> FINISHED

The machine decides what may be released, what the receipt commits to, and how the exchange
ended; the caller reads, sends, and reports.  A call out of order raises `LocalProtocolError`:
it is always a mistake of the gateway, never of a client or an engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attestation.encoding.making import maker_of
from attestation.receipt import text
from attestation.receipt.asked import Asked
from attestation.receipt.claims import ALLOWED, End
from attestation.receipt.delivery import Delivery, body_of
from attestation.receipt.order import (
    ALLOWED_IN,
    LocalProtocolError,
    State,
    misuse,
    out_of_order,
)
from attestation.receipt.outcome import Body, LineageContext, ModelFacts, Outcome
from attestation.receipt.padding import AS_IT_COMES, Shaping, delivery_of
from attestation.receipt.plain import facts_of_answer
from attestation.receipt.plan import ForwardPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.encoding.digest import Digest
    from attestation.receipt.delivery import StreamDelivery
    from attestation.receipt.dialect import Dialect
    from attestation.receipt.facts import FactSheet

__all__ = ["Exchange", "ForwardPlan", "LocalProtocolError", "State"]

DEFAULT_MAX_FRAME_BYTES: Final = 1 << 20
_STREAM: Final = State.STREAM
_outcome_of = maker_of(Outcome)


class Exchange:
    """One request and its answer.

    `jti` is the receipt id, `nonce` the caller's nonce or None, `inline` whether the caller
    asked for the receipt with the answer.  After `finish`, `body` holds the plain answer to
    send; of a stream, `owed` is what was released and never taken, `terminal` the last frame:
    to be sent in the order owed, in-band block, terminal.
    """

    def __init__(  # noqa: PLR0913  (what is known when a request is announced)
        self,
        *,
        jti: str,
        method: str,
        path: str,
        sub: Digest,
        grant_digest: Digest,
        dialect: Dialect,
        inline: bool,
        nonce: str | None,
        lineage: LineageContext,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        shaping: Shaping = AS_IT_COMES,
    ) -> None:
        self._asked = Asked(
            jti=jti,
            method=method,
            path=path,
            sub=sub,
            grant_digest=grant_digest,
            nonce=nonce,
            lineage=lineage,
        )
        self.jti = jti
        self.state = State.RECEIVING
        self.body = b""
        self.terminal = b""
        self.owed = b""
        self.inline = inline
        self._dialect = dialect
        self._status: int | None = None
        self._content_type: str | None = None
        self._shape = (max_frame_bytes, shaping)
        self._stream: StreamDelivery | None = None
        self._pieces: list[bytes] = []
        self._clean = False
        self.engine_bytes = 0

    @property
    def halted(self) -> bool:
        """Whether a stream has come to where nothing more will be released.

        After a terminal frame the engine's message must still be read to its end.
        """
        return self._stream is not None and self._stream.tracker.halted

    @property
    def broken(self) -> bool:
        """Whether a stream can end in nothing but an error, so that reading on is pointless.

        Then report `engine_end(clean=False)`, close the engine's connection, and `finish`.
        """
        stream = self._stream
        return stream is not None and stream.tracker.halted and stream.tracker.terminal is None

    def receive(self, data: bytes) -> None:
        """Take a piece of the request body, as the server delivered it; kept until `plan`."""
        self._enter("receive")
        self._asked.receive(data)

    def skim(self, data: bytes) -> None:
        """Take a piece of a body that will not be forwarded: it is hashed and not kept."""
        self._enter("skim")
        self._asked.body.update(data)

    def received(self, content_type: str | None, *, complete: bool = True) -> None:
        """Note that no more of the body comes; `complete` False: it was not read to its end."""
        self._enter("received", State.RECEIVED)
        self._asked.ended(content_type, complete=complete)

    def decide(self, code: str = ALLOWED) -> None:
        """Record the decision: "allow", or the code of a refusal."""
        self._enter("decide")
        self._asked.decide(code)

    def set_model(self, model_id: str | None, *, engine: str | None = None) -> None:
        """Record the model asked for and what the engine is called.

        Text outside its alphabet becomes None.
        """
        self._enter("set_model")
        self._asked.name_model(model_id, engine)

    def plan(self, plan: ForwardPlan) -> None:
        """Fix what goes to the engine.

        Raises `LocalProtocolError` unless the request was allowed and read to its end, and the
        body is the received one or differs from it by just the stated splices.
        """
        self._enter("plan", State.PLANNED)
        self._asked.fix(plan)

    def attempt(self, upstream: str, *, local: bool, outcome: str, milliseconds: int) -> None:
        """Record a try to reach an upstream.  Of many, the first two and the last are kept."""
        self._enter("attempt")
        self._asked.tried(upstream, local=local, outcome=outcome, milliseconds=milliseconds)

    def respond(self, status: int, content_type: str | None, *, streaming: bool) -> None:
        """Note the engine's response head; `streaming` says that its head was passed on."""
        self._enter("respond", State.STREAM if streaming else State.PLAIN)
        if streaming:
            self._stream = delivery_of(self._dialect, *self._shape)
        self._set_head(status, content_type)

    def engine(self, data: bytes) -> bytes:
        """Take a piece of the engine's body; return what to send now (streams only)."""
        self._enter("engine")
        if self._stream is not None:
            return self._stream.feed(data)
        self.engine_bytes += len(data)
        self._pieces.append(data)
        return b""

    def relay(self, data: bytes, send: Callable[[bytes], bool]) -> bool:
        """Take a piece of the engine's stream and hand to `send` what may be sent now.

        It is `engine` and `taken` in one: `send` says whether the transport took all of what it
        was handed.  Returns False if it did not, or if the stream is `broken`.
        """
        stream = self._stream
        if self.state is not _STREAM or stream is None:
            raise out_of_order("relay", self.state)
        return stream.relay(data, send) and not (stream.tracker.halted and self.broken)

    def taken(self, data: bytes) -> None:
        """Note that the transport took `data`, a whole return value of `engine`, in order."""
        self._enter("taken")
        if self._stream is None or not self._stream.taken(data):
            raise misuse("pieces are taken whole and in the order they were released", "taken")

    def engine_end(self, *, clean: bool) -> None:
        """Note the end of the engine's message; `clean` means complete by its HTTP framing."""
        stream = self._stream
        self._enter("engine_end", State.PLAIN_DONE if stream is None else State.STREAM_DONE)
        self._clean = clean
        if stream is not None:
            stream.tracker.finish()

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        """Put the gateway's own answer in the place of the engine's."""
        self._enter("answer", State.ANSWERED)
        self._set_head(status, content_type)
        self.body = body

    def finish(self, end: End = End.COMPLETE, *, error_frame: bytes | None = None) -> Outcome:
        """End the exchange and return what the notary has to know.

        `end` is what the caller saw.  "complete" is lowered to what the stream really showed.
        `error_frame` is the terminal frame of a stream whose engine sent none that can be
        delivered; without it the dialect's own form is used.
        """
        before = self.state
        self._enter("finish", State.FINISHED)
        stream = self._stream
        if stream is not None:
            ended = self._finish_stream(stream, end, before, error_frame)
            return self._outcome(*ended, stream.tracker.facts)
        delivery = self._finish_plain(end, before)
        facts = facts_of_answer(self._dialect, self.body if end is End.COMPLETE else b"")
        return self._outcome(end, delivery, facts)

    def _finish_plain(self, end: End, before: State) -> Delivery:
        if end is End.COMPLETE:
            if before is not State.PLAIN_DONE or not self._clean:
                raise misuse("only an engine's whole answer is complete", "finish")
            self.body = b"".join(self._pieces)
        elif end is End.CLIENT_ABORT or before is not State.ANSWERED:
            self.body = b""
            return Delivery(body=body_of(b""))
        return Delivery(
            status=self._status, content_type=self._content_type, body=body_of(self.body)
        )

    def _finish_stream(
        self, stream: StreamDelivery, end: End, before: State, own_frame: bytes | None
    ) -> tuple[End, Delivery]:
        engine_frame = None
        if end is End.COMPLETE:
            if before is not State.STREAM_DONE:
                raise misuse("a stream is complete only after the engine's end", "finish")
            end = stream.end_seen(clean=self._clean)
            engine_frame = stream.tracker.terminal if self._clean else None
        offset = None
        if end is End.CLIENT_ABORT:
            stream.cut()
        else:
            self.terminal = engine_frame or own_frame or stream.own_frame(end)
            self.owed = stream.owed(self.terminal)
            offset = stream.close(self.terminal)
        block = offset if self.inline else None
        return end, stream.delivery(self._status, self._content_type, block)

    def _engine_body(self, end: End, delivered: Body) -> Body | None:
        """What the engine sent, None where that is nothing or exactly what was delivered."""
        if self._stream is not None:
            sent = self._stream.engine
        elif end is End.COMPLETE:
            return None
        else:
            sent = body_of(b"".join(self._pieces))
        return None if sent == delivered or not sent.length else sent

    def _outcome(self, end: End, delivery: Delivery, facts: FactSheet) -> Outcome:
        asked, plan = self._asked, self._asked.plan
        return _outcome_of(
            jti=self.jti,
            method=asked.method,
            path=asked.path,
            sub=asked.sub,
            grant_digest=asked.grant_digest,
            lineage=asked.lineage,
            inline=self.inline,
            end=end,
            decision=asked.decision,
            nonce=asked.nonce,
            request=asked.body.body,
            request_type=asked.content_type,
            request_partial=asked.partial,
            forwarded=body_of(plan.body) if plan.splices else None,
            splices=plan.splices,
            inserted=plan.inserted,
            status=delivery.status,
            response=delivery.body,
            response_type=delivery.content_type,
            engine=self._engine_body(end, delivery.body),
            block_offset=delivery.block_offset,
            events=delivery.events,
            finish_reasons=facts.finish_reasons,
            mods=delivery.mods,
            model=ModelFacts(id=asked.model_id, served=facts.served, engine=asked.engine),
            usage=facts.usage,
            attempts=tuple(asked.attempts),
        )

    def _set_head(self, status: int, content_type: str | None) -> None:
        self._status = status
        self._content_type = text.fitting(text.CONTENT_TYPE, content_type)

    def _enter(self, action: str, state: State | None = None) -> None:
        if self.state not in ALLOWED_IN[action]:
            raise out_of_order(action, self.state)
        if state is not None:
            self.state = state
