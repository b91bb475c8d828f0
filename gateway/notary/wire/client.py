"""A notary behind a socket, for those who may not hold its keys.

One connection is one worker's whole life with one boot: when it is lost, for whatever reason,
every waiter gets `NotaryUnavailable` and `healthy` stays False, because a boot never comes back.

What was announced is with the kernel when `handed_over` returns, before anything of the request
can have gone anywhere else; a worker that dies in the next instant leaves the notary knowing
of it.  Mostly `hand_over` is enough for that; a notary that is behind makes its workers wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import UsageError
from attestation.receipt.seal import receipt_id_in
from attestation.receipt.text import MAX_INTEGER
from gateway.errors import NotaryUnavailable
from gateway.notary.wire import announcements, messages, outcomes, receipts, replies
from gateway.notary.wire.frames import Kind
from gateway.notary.wire.link import CLOSED, Link

if TYPE_CHECKING:
    import asyncio
    import socket

    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import Outcome
    from gateway.notary.interface import Announcement, Boot, Challenge, Found, SealedReceipt
    from gateway.notary.wire.replies import Condition


class RemoteNotary(Link):
    """The notary's protocol over a connected socket.  Use it from one event loop only."""

    def __init__(self, sock: socket.socket, hello: tuple[Boot, Condition]) -> None:
        """Take over a connection whose first frame was read; `connect` makes one."""
        super().__init__(sock, hello)
        self._announced: set[str] = set()

    @property
    def boot(self) -> Boot:
        """The boot whose receipts this notary signs."""
        return self._boot

    @property
    def healthy(self) -> bool:
        """Whether a request announced now can be expected to get its receipt."""
        return not self._gone and self._condition.healthy

    @property
    def reason(self) -> str:
        """A stable code for why the notary is not healthy; empty while it is."""
        return self._gone or self._condition.reason

    def announce(self, announcement: Announcement) -> None:
        """Number the request; see the interface.  It leaves with what else this turn announces."""
        if not self.healthy:
            raise NotaryUnavailable(f"the notary takes no new requests: {self.reason}")
        if announcement.jti in self._announced:
            raise ValueError("a receipt id was announced twice")
        payload = announcements.encode_announcement(announcement)
        self._queue(Kind.ANNOUNCE, 0, payload)
        self._announced.add(announcement.jti)

    def hand_over(self) -> bool:
        """Give the kernel what was announced so far; see the interface."""
        if self._out:
            self._flush()
        self._require_connected()
        return not self._backlog

    async def handed_over(self) -> None:
        """Return once the kernel has what was announced so far; see the interface."""
        if self.hand_over():
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._handing.append((self._written + len(self._backlog), waiter))
        await waiter

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return the receipt once it is durable; see the interface."""
        self._announced.discard(outcome.jti)
        payload = outcomes.encode_outcome(outcome)
        frame = await self._ask(Kind.SEAL, payload, (Kind.SEALED,))
        return self._read(receipts.decode_sealed, frame)

    def count_unauthenticated(self, count: int = 1) -> None:
        """Count requests that no key owns."""
        self._count(0, count)

    def count_unreceipted(self, count: int = 1) -> None:
        """Count refusals above their keys' rates."""
        self._count(1, count)

    async def find(
        self, receipt_id: str, sub: Digest, *, wait_seconds: float = 0.0
    ) -> Found | None:
        """Look up a receipt for its owner; see the interface."""
        jti = receipt_id_in(receipt_id)
        if jti is None:
            self._require_connected()
            return None
        wait = int(1000 * min(max(wait_seconds, 0.0), messages.MAX_WAIT_SECONDS))
        search = messages.Search(jti=jti, sub=sub, wait_milliseconds=wait)
        frame = await self._ask(
            Kind.FIND, messages.encode_search(search), (Kind.FOUND, Kind.NOTHING)
        )
        return None if frame.kind is Kind.NOTHING else self._read(replies.decode_found, frame)

    async def challenge(self, nonce: bytes) -> Challenge:
        """Return a quote fresh for this nonce; see the interface."""
        if len(nonce) != messages.NONCE_BYTES:
            raise UsageError(
                "a challenge nonce has the wrong length",
                code="nonce",
                expected=f"{messages.NONCE_BYTES} bytes",
                observed=f"{len(nonce)} bytes",
            )
        frame = await self._ask(Kind.CHALLENGE, messages.encode_nonce(nonce), (Kind.CHALLENGED,))
        return self._read(replies.decode_challenge, frame)

    async def read_log(self, path: str) -> bytes | None:
        """Return the exact bytes of a resource of the log; see the interface."""
        if not messages.is_log_path(path):
            self._require_connected()
            return None
        payload = messages.encode_path(path)
        frame = await self._ask(Kind.READ_LOG, payload, (Kind.DATA, Kind.NOTHING))
        return None if frame.kind is Kind.NOTHING else frame.payload

    async def epoch(self, number: int | None) -> EpochEvidence | None:
        """Return the evidence of one epoch, None in place of a number for the newest."""
        if number is not None and not 0 <= number <= MAX_INTEGER:
            self._require_connected()
            return None
        payload = messages.encode_epoch_number(number)
        frame = await self._ask(Kind.EPOCH, payload, (Kind.QUOTED, Kind.NOTHING))
        return None if frame.kind is Kind.NOTHING else self._read(replies.decode_epoch, frame)

    async def metrics_text(self) -> bytes:
        """Return the notary's metrics in Prometheus' text format."""
        return (await self._ask(Kind.METRICS, b"", (Kind.DATA,))).payload

    async def close(self) -> None:
        """End the connection; the notary seals what was announced here and never sealed."""
        if not self._gone:
            self._flush()
            self._lose(CLOSED)
