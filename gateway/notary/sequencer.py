"""The critical section of a boot: index, signature and append in one step, release when durable.

ledger (numbers, signs)  ─►  group commit (writes, syncs)  ─►  durable mark, settled receipts
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import NotaryUnavailable
from gateway.notary.entries import OutcomeRefused, Sequenced
from gateway.notary.log.commit import GroupCommit
from gateway.notary.log.segments import Kind, encode_record

if TYPE_CHECKING:
    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import Outcome
    from gateway.notary.clock import Clock
    from gateway.notary.counts import Counts, Mark
    from gateway.notary.interface import Sealed, SealedReceipt
    from gateway.notary.ledger import Ledger
    from gateway.notary.lifetime import Lifetime
    from gateway.notary.log.segments import Location
    from gateway.notary.log.store import LogStore
    from gateway.telemetry.metrics import Metrics


class Sequencer:
    """Puts receipts, epochs and checkpoints into the log, in one order, from one event loop.

    `durable` is the log as far as it is on the medium; `on_growth` is called whenever that grew.
    Whatever fails once an index may be taken ends the boot: a hole in the sequence could not be
    told from a removed receipt.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: LogStore,
        *,
        lifetime: Lifetime,
        metrics: Metrics,
        clock: Clock,
        on_growth: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._lifetime = lifetime
        self._metrics = metrics
        self._clock = clock
        self._on_growth = on_growth
        self.commit = GroupCommit(
            store,
            before_batch=self._take_batch,
            after_batch=self._note_batch,
            on_failure=lambda: lifetime.end("log_failed"),
            complete=lambda: not ledger.in_flight,
        )
        self._watchers: dict[str, asyncio.Event] = {}
        self.durable = ledger.mark()

    async def open(self) -> None:
        """Make the boot statement leaf 0; returns when it is durable."""
        await self.commit.submit(self._ledger.open())

    def seal(self, outcome: Outcome, known: Mapping[str, Digest], told: Sealed) -> None:
        """Take the receipt's index and queue its record; `told` hears of its durability.

        Raises `OutcomeRefused` if the outcome makes no receipt: no index was taken then.  Raises
        `NotaryUnavailable` if the boot has ended, or ends by this.  `told` hears nothing then.
        """
        try:
            sequenced = self._ledger.seal(outcome, known)
            self.commit.put(sequenced.frame, partial(self._settle, sequenced, told))
        except (OutcomeRefused, NotaryUnavailable):
            raise
        except Exception as error:
            # The index may be taken: a hole could not be told from a removed receipt.
            self._lifetime.end("sequence_failed")
            raise NotaryUnavailable("sequencing a receipt failed") from error

    def abandon(self, jti: str, known: Mapping[str, Digest]) -> asyncio.Future[None] | None:
        """Seal an announced request as `gateway_failure`; None if it is not announced any more.

        The future is done once the receipt is durable, or fails with `NotaryUnavailable`.
        """
        if self._ledger.announced(jti) is None:
            return None
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            outcome = self._ledger.abandoned(jti)
            self.seal(outcome, known, partial(_release, waiter))
        except OutcomeRefused as error:
            self._lifetime.end("sequence_failed")
            raise NotaryUnavailable("an abandoned request could not be sealed") from error
        return waiter

    async def append_epoch(self, evidence: EpochEvidence) -> Location:
        """Make a quoted epoch the next leaf; return where it is, once it is durable."""
        try:
            leaf, frame = self._ledger.add_epoch(evidence)
            durable = self.commit.submit(frame)
        except NotaryUnavailable:
            raise
        except Exception as error:
            # As in `seal`: the leaf may be in the tree already.
            self._lifetime.end("sequence_failed")
            raise NotaryUnavailable("an epoch could not be put into the log") from error
        # As a callback: rows of the index come in the order of the log.
        durable.add_done_callback(lambda done: self._settle_epoch(evidence, leaf, done))
        return await asyncio.shield(durable)

    def keep_note(self, note: str) -> asyncio.Future[Location]:
        """Write a signed checkpoint, which is no leaf; return the future of its durability."""
        return self.commit.submit(encode_record(Kind.CHECKPOINT, note.encode("utf-8")))

    def counts(self) -> Counts:
        """Return what an epoch over the durable log counts, as of this step."""
        return self._ledger.counts(self.durable)

    async def wait_sealed(self, jti: str, seconds: float) -> None:
        """Return once the request has its receipt, or the boot has ended, or it is late."""
        watcher = self._watchers.setdefault(jti, asyncio.Event())
        await self._clock.reaches(watcher.wait(), seconds)

    def release_watchers(self) -> None:
        """Let everyone go who waits for a receipt: the boot has ended."""
        for watcher in self._watchers.values():
            watcher.set()
        self._watchers.clear()

    async def close(self) -> None:
        """Make durable what was queued; then the log takes nothing any more."""
        await self.commit.close()

    def _settle(self, sequenced: Sequenced, told: Sealed, location: Location | None) -> None:
        if location is None:
            told(NotaryUnavailable("a write of the log failed"))
            return
        receipt = sequenced.receipt
        self._ledger.settle(sequenced, location)
        self._metrics.sealed(sequenced.path, sequenced.end)
        if self._watchers:
            watcher = self._watchers.pop(receipt.jti, None)
            if watcher is not None:
                watcher.set()
        told(receipt)

    def _settle_epoch(
        self, evidence: EpochEvidence, leaf: int, done: asyncio.Future[Location]
    ) -> None:
        if not done.cancelled() and done.exception() is None:
            self._ledger.settle_epoch(evidence, leaf, done.result())

    def _take_batch(self) -> tuple[float, Mark]:
        return self._clock.monotonic(), self._ledger.mark()

    def _note_batch(self, state: tuple[float, Mark], leaves: int) -> None:
        began, self.durable = state
        self._metrics.committed(
            records=leaves,
            seconds=self._clock.monotonic() - began,
            log_size=self.durable.size,
        )
        self._on_growth()


def _release(waiter: asyncio.Future[None], result: SealedReceipt | NotaryUnavailable) -> None:
    if waiter.done():
        return  # whoever waited was cancelled
    if isinstance(result, NotaryUnavailable):
        waiter.set_exception(result)
    else:
        waiter.set_result(None)
