"""One worker's connection, as the notary sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NoReturn, cast

from attestation.errors import MalformedError
from gateway.errors import NotaryUnavailable
from gateway.notary.wire import announcements, messages, outcomes, receipts, replies
from gateway.notary.wire.frames import (
    MAX_TO_NOTARY,
    TO_NOTARY,
    Frame,
    FrameReader,
    Kind,
    encode_frame,
)
from gateway.notary.wire.insertions import insertions
from gateway.notary.wire.questions import Questions
from gateway.notary.wire.socket import read_unread
from gateway.notary.wire.turns import Turns
from gateway.notary.wire.values import refused

if TYPE_CHECKING:
    from gateway.notary.interface import Announcement, SealedReceipt
    from gateway.notary.wire.server import WireServer

_FAREWELL_SECONDS = 1.0
_WITHOUT_REPLY = frozenset({Kind.ANNOUNCE, Kind.COUNT})


class Connection(asyncio.BufferedProtocol):
    """Reads what a worker sends, answers, and hands back what it leaves behind.

    Replies that become ready in one turn of the loop leave in one write.
    """

    def __init__(self, server: WireServer) -> None:
        self._server = server
        self._reader = FrameReader(TO_NOTARY, max_payload=MAX_TO_NOTARY)
        self._transport: asyncio.Transport | None = None
        self._announced: dict[str, Announcement] = {}  # in the order of their admission
        self._sealing: set[int] = set()
        self._inserted = insertions()
        self._questions = questions = Questions(server, self._send)
        self._asked = questions.numbers
        self._out: list[bytes] = []
        self._turns = Turns(self._take)
        self._stall: asyncio.TimerHandle | None = None
        self._open = False
        self._handlers: dict[Kind, Callable[[Frame], None]] = {
            Kind.ANNOUNCE: self._announce,
            Kind.SEAL: self._seal,
            Kind.COUNT: self._count,
            Kind.FIND: questions.find,
            Kind.CHALLENGE: questions.challenge,
            Kind.READ_LOG: questions.read_log,
            Kind.EPOCH: questions.epoch,
            Kind.METRICS: questions.metrics,
            Kind.CANCEL: questions.cancel,
        }

    # -- asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the peer in and tell it the boot, or hang up."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.admit(self, transport.get_extra_info("socket")):
            self._transport.abort()
            return
        self._open = True
        self._turns.begin(self._transport)
        self.send_hello()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Return where the next bytes go."""
        return self._turns.space

    def buffer_updated(self, nbytes: int) -> None:
        """Act on every frame that is whole; the first that breaks the protocol ends it."""
        self._turns.took(nbytes)

    def _take(self, data: memoryview) -> int:
        if not self._open:
            return 0
        try:
            for frame in self._reader.feed(data):
                self._act(frame)
        except MalformedError as error:
            self._hang_up(error)
        return self._server.running

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The worker is gone, or was let go because it takes nothing."""
        self._number_unread()
        self._leave()

    def pause_writing(self) -> None:
        """The worker takes nothing: it is not read either, and it has so long to begin again."""
        transport = self._require_transport()
        self._turns.hold()
        if self._stall is None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._server.limits.stall_seconds, transport.abort)

    def resume_writing(self) -> None:
        """The worker took what waited."""
        self._stop_stall_timer()
        self._turns.release()

    # -- for the server --------------------------------------------------------------------

    @property
    def running(self) -> int:
        """How many of its requests are announced and not sealed."""
        return len(self._announced)

    def send_hello(self) -> None:
        """Tell the worker the boot, and how the notary is."""
        hello = replies.encode_hello(self._server.notary.boot, self._server.condition)
        self._send(Kind.HELLO, 0, hello)

    def send_condition(self) -> None:
        """Tell the worker how the notary is."""
        self._send(Kind.STATE, 0, replies.encode_condition(self._server.condition))

    def close(self) -> None:
        """End the connection; what was sent still arrives, in either direction."""
        self._number_unread()
        self._end()

    def _end(self) -> None:
        transport = self._require_transport()
        self._flush()
        self._leave()
        transport.close()
        # A peer that takes nothing must not keep the notary from ending.
        asyncio.get_running_loop().call_later(_FAREWELL_SECONDS, transport.abort)

    # -- frames ----------------------------------------------------------------------------

    def _act(self, frame: Frame) -> None:
        kind, request, _ = frame
        if (request == 0) != (kind in _WITHOUT_REPLY):
            raise refused("a request number exactly where there is a reply")
        used = request in self._sealing or request in self._asked
        if used and kind is not Kind.CANCEL:
            raise refused("a request number that no question waits under")
        self._handlers[kind](frame)

    def _announce(self, frame: Frame) -> None:
        said = announcements.decode_announcement(frame.payload)
        if len(self._announced) >= self._server.limits.announced:
            raise refused(f"at most {self._server.limits.announced} running requests")
        try:
            self._server.notary.announce(said)
        except ValueError:
            raise refused("a receipt id that was never announced before") from None
        except NotaryUnavailable:
            pass  # the worker hears of it when it asks for the receipt
        self._announced[said.jti] = said

    def _seal(self, frame: Frame) -> None:
        said = self._announced.pop(outcomes.outcome_id(frame.payload), None)
        if said is None:
            raise refused("an outcome of a request announced on this connection, once")
        self._sealing.add(frame.request)
        try:
            outcome = outcomes.decode_outcome(frame.payload, said, self._inserted)
        except MalformedError:
            # The fault may be one exchange's alone.  The others on this connection go on.
            self._server.keep(self._refuse_outcome(frame.request, said.jti))
            return
        self._server.begin_seal()
        self._server.notary.seal_soon(outcome, partial(self._sealed, frame.request))

    def _sealed(self, request: int, result: SealedReceipt | NotaryUnavailable) -> None:
        self._server.end_seal()
        self._sealing.discard(request)
        if isinstance(result, NotaryUnavailable):
            self._send(Kind.FAILED, request, replies.encode_failure(result))
        else:
            self._send(Kind.SEALED, request, receipts.encode_sealed(result))

    async def _refuse_outcome(self, request: int, jti: str) -> None:
        async def refuse() -> NoReturn:
            await self._server.notary.abandon(jti)
            raise NotaryUnavailable("the outcome could not be sealed as it is")

        await self._questions.answer(request, refuse)
        self._sealing.discard(request)

    def _count(self, frame: Frame) -> None:
        unauthenticated, unreceipted = messages.decode_count(frame.payload)
        self._server.notary.count_unauthenticated(unauthenticated)
        self._server.notary.count_unreceipted(unreceipted)

    # -- ending ----------------------------------------------------------------------------

    def _hang_up(self, error: MalformedError) -> None:
        # Nothing more is read: after what is no frame, nothing can be told apart.
        self._send(Kind.FAILED, 0, replies.encode_failure(error))
        self._end()

    def _number_unread(self) -> None:
        """Number what the worker announced and nobody read: it may have been forwarded since."""
        if not self._open:
            return
        try:
            unread = read_unread(self._require_transport().get_extra_info("socket").fileno())
            for frame in self._reader.feed(unread):
                if frame.kind is Kind.ANNOUNCE:
                    self._act(frame)
        except MalformedError:
            return  # nobody is left to be told

    def _leave(self) -> None:
        if not self._open:
            return
        self._open = False
        self._turns.end()
        self._stop_stall_timer()
        self._questions.close()
        announced, self._announced = self._announced, {}
        self._server.leave(self, announced)

    def _send(self, kind: Kind, request: int, payload: bytes) -> None:
        if not self._open:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(encode_frame(kind, request, payload))

    def _flush(self) -> None:
        transport = self._require_transport()
        if self._out and self._open:
            transport.write(b"".join(self._out))
            if transport.get_write_buffer_size() > self._server.limits.write_bytes:
                transport.abort()
        self._out.clear()

    def _stop_stall_timer(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _require_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the connection was never made")
        return self._transport
