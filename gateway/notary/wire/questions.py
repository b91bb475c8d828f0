"""What a worker asks beside its requests: receipts, challenges, the log, epochs, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, KeysView
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import AttestationError, UnavailableError
from gateway.errors import NotaryUnavailable
from gateway.notary.wire import messages, replies
from gateway.notary.wire.frames import Frame, Kind
from gateway.notary.wire.values import refused
from gateway.notary.wire.waits import Waits

if TYPE_CHECKING:
    import asyncio

    from attestation.bundle import EpochEvidence
    from gateway.notary.interface import Challenge, Found
    from gateway.notary.wire.server import WireServer

T = TypeVar("T")
Reply = tuple[Kind, bytes]


class Questions:
    """The questions of one connection; each is a task until `send` takes its reply."""

    def __init__(self, server: WireServer, send: Callable[[Kind, int, bytes], None]) -> None:
        self._server = server
        self._send = send
        self._tasks: dict[int, asyncio.Task[None]] = {}
        limits = server.limits
        self.waits = Waits(most=limits.waits, most_of_one=limits.owner_waits)

    def __len__(self) -> int:
        """How many wait for their reply."""
        return len(self._tasks)

    @property
    def numbers(self) -> KeysView[int]:
        """The numbers under which they wait, now and later."""
        return self._tasks.keys()

    def close(self) -> None:
        """Answer none of them any more."""
        for task in tuple(self._tasks.values()):
            task.cancel()

    def find(self, frame: Frame) -> None:
        """FIND: look a receipt up, now or when it got further."""
        asked = messages.decode_search(frame.payload)
        wait = asked.wait_milliseconds / 1000
        find = partial(self._server.notary.find, asked.jti, asked.sub, wait_seconds=wait)
        if wait == 0:
            self._ask(frame.request, find, _found_reply)
        elif self.waits.add(frame.request, asked.sub):
            self._begin(frame.request, find, _found_reply)
        else:
            self._refuse_busy(frame.request)

    def challenge(self, frame: Frame) -> None:
        """CHALLENGE: a quote that is fresh for a nonce."""
        nonce = messages.decode_nonce(frame.payload)
        challenge = partial(self._server.notary.challenge, nonce)
        self._ask(frame.request, challenge, _challenge_reply)

    def read_log(self, frame: Frame) -> None:
        """READ_LOG: a resource of the log."""
        path = messages.decode_path(frame.payload)
        self._ask(frame.request, partial(self._server.notary.read_log, path), _data_reply)

    def epoch(self, frame: Frame) -> None:
        """EPOCH: the evidence of an epoch."""
        number = messages.decode_epoch_number(frame.payload)
        self._ask(frame.request, partial(self._server.notary.epoch, number), _epoch_reply)

    def metrics(self, frame: Frame) -> None:
        """METRICS: the notary's own, as text."""
        if frame.payload:
            raise refused("no payload")
        self._ask(frame.request, self._server.notary.metrics_text, _data_reply)

    def cancel(self, frame: Frame) -> None:
        """CANCEL: nobody waits any more."""
        # An answer may have crossed it, so that there is nothing to cancel.
        task = self._tasks.get(frame.request)
        if task is not None:
            task.cancel()

    async def answer(self, request: int, ask: Callable[[], Awaitable[Reply]]) -> None:
        """Send what `ask` returns, or how it failed."""
        try:
            kind, payload = await ask()
        except (AttestationError, NotaryUnavailable) as error:
            kind, payload = Kind.FAILED, replies.encode_failure(error)
        except Exception:  # noqa: BLE001 - a fault of the notary's must not leave a worker waiting
            failure = NotaryUnavailable("the notary failed inside")
            kind, payload = Kind.FAILED, replies.encode_failure(failure)
        self._send(kind, request, payload)

    def _ask(
        self, request: int, ask: Callable[[], Awaitable[T]], encode: Callable[[T], Reply]
    ) -> None:
        if len(self._tasks) - len(self.waits) >= self._server.limits.questions:
            self._refuse_busy(request)
        else:
            self._begin(request, ask, encode)

    def _begin(
        self, request: int, ask: Callable[[], Awaitable[T]], encode: Callable[[T], Reply]
    ) -> None:
        async def reply() -> Reply:
            return encode(await ask())

        task = self._tasks[request] = self._server.keep(self.answer(request, reply))
        # Not in the task: one that is cancelled before its first step runs nothing of itself.
        task.add_done_callback(lambda _: self._forget(request))

    def _forget(self, request: int) -> None:
        del self._tasks[request]
        self.waits.discard(request)

    def _refuse_busy(self, request: int) -> None:
        self._send(Kind.FAILED, request, replies.encode_failure(_busy()))


def _challenge_reply(challenge: Challenge) -> Reply:
    return Kind.CHALLENGED, replies.encode_challenge(challenge)


def _found_reply(found: Found | None) -> Reply:
    return (Kind.NOTHING, b"") if found is None else (Kind.FOUND, replies.encode_found(found))


def _epoch_reply(epoch: EpochEvidence | None) -> Reply:
    return (Kind.NOTHING, b"") if epoch is None else (Kind.QUOTED, replies.encode_epoch(epoch))


def _data_reply(data: bytes | None) -> Reply:
    return (Kind.NOTHING, b"") if data is None else (Kind.DATA, data)


def _busy() -> UnavailableError:
    return UnavailableError(
        "too many questions to the notary wait already", code="busy", hint="try again later"
    )
