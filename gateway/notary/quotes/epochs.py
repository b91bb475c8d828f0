"""Epochs: the log's state, quoted by the platform every some seconds while receipts come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attestation.bundle import EpochEvidence
from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from attestation.statement import EpochStatement
from gateway.errors import NotaryUnavailable
from gateway.notary.quotes.book import EpochBook
from gateway.notary.quotes.turns import Purpose

if TYPE_CHECKING:
    from attestation.tdx.quote import Quote
    from gateway.notary.checkpointer import SignedCheckpoint
    from gateway.notary.clock import Clock
    from gateway.notary.counts import Counts
    from gateway.notary.log.segments import Location
    from gateway.notary.quotes.quoter import Quoter

_FAULT_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The log and its counters in one step: everything an epoch states of it."""

    signed: SignedCheckpoint
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedBoot:
    """What every epoch statement of a boot repeats."""

    bootseed: bytes
    boot_quote_digest: Digest
    keyset_digest: Digest
    gpu_digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Seconds between the starts of two epochs, and the least when somebody waits for one."""

    seconds: float = 10.0
    forced_seconds: float = 2.0


class EpochLog(Protocol):
    """The log that is quoted."""

    def durable_receipts(self) -> int:
        """How many receipt leaves are on the medium."""

    def snapshot(self) -> Snapshot:
        """Sign the durable head and count, in one step."""

    async def append_epoch(self, evidence: EpochEvidence) -> Location:
        """Make the epoch a leaf of the log; return when that is durable.

        Raises `NotaryUnavailable`: the boot has ended then.
        """


def _unendorsed() -> None:
    """Name no endorsements."""


class EpochDesk:
    """Has the log quoted: at once after idle times, then every `pacing.seconds` while dirty.

    The log is dirty while a durable receipt is covered by no quoted epoch.  An attempt that
    fails changes nothing: after the quoter's pause the log is quoted as it is then, under the
    same number.  `examine` looks at every quote and raises `NotaryUnavailable` if it is not
    from this boot's trust domain; `endorse` names the endorsements that an epoch's quote is shown
    with, asked for each; `report` is told how each attempt ended, and how many leaves it anchored.
    """

    def __init__(
        self,
        quoter: Quoter,
        log: EpochLog,
        boot: QuotedBoot,
        *,
        pacing: Pacing,
        clock: Clock,
        examine: Callable[[Quote], None],
        report: Callable[[str, int], None],
        endorse: Callable[[], Digest | None] = _unendorsed,
    ) -> None:
        self._quoter = quoter
        self._log = log
        self._boot = boot
        self._pacing = pacing
        self._clock = clock
        self._examine = examine
        self._report = report
        self._endorse = endorse
        self._completed = 0
        self._previous = boot.boot_quote_digest
        self._dirty_since: float | None = None
        self._last_start: float | None = None
        self._must_retry = False
        self._closing = False
        self._closed = False
        self._nudge = asyncio.Event()
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._task: asyncio.Task[None] | None = None
        self.book = EpochBook()

    @property
    def age(self) -> float:
        """Seconds for which durable receipts have been waiting for an epoch; 0 if none is."""
        since = self._dirty_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def notice(self) -> None:
        """Leaves became durable: the log may be dirty now.  Cheap; called after every sync."""
        if self._dirty_since is None and self._log.durable_receipts() > self._completed:
            self._dirty_since = self._clock.monotonic()
            self._wake()

    async def wait_anchored(self, index: int, seconds: float) -> None:
        """Return once an epoch covers the leaf at `index`, or the desk is closed, or it is late.

        Who waits here brings the next epoch forward.
        """
        if index < self.book.covered or self._closed:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = index
        self._wake()
        try:
            await self._clock.reaches(waiter, seconds)
        finally:
            self._waiting.pop(waiter, None)

    async def finish(self, seconds: float) -> None:
        """Have what is not covered yet quoted at once, for at most so many seconds; then close."""
        self._closing = True
        self.notice()
        self._wake()
        if self._task is not None:
            await self._clock.reaches(self._task, seconds)
        self.close()

    def close(self) -> None:
        """Quote nothing any more; who waits is let go."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for waiter in self._waiting:
            _release(waiter)

    def _wake(self) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run())
        self._nudge.set()

    async def _run(self) -> None:
        while not (self._closing and self._dirty_since is None):
            self._nudge.clear()
            delay = self._delay()
            if delay is None:
                await self._nudge.wait()
            elif delay > 0:
                await self._clock.reaches(self._nudge.wait(), delay)
            elif not await self._attempt():
                return

    def _delay(self) -> float | None:
        """Return the seconds until the next attempt is due, None while there is nothing to do."""
        if self._dirty_since is None:
            return None
        if self._last_start is None or self._must_retry or self._closing:
            return 0.0
        pacing = self._pacing
        pause = min(pacing.seconds, pacing.forced_seconds) if self._waiting else pacing.seconds
        return self._last_start + pause - self._clock.monotonic()

    async def _attempt(self) -> bool:
        """Have the log quoted; return whether the boot goes on."""
        await self._quoter.until_ready()
        self._must_retry = True
        try:
            async with self._quoter.turns.turn(Purpose.EPOCH):
                snapshot, quote, evidence = await self._quoted()
            self._examine(quote)
            location = await self._log.append_epoch(evidence)
        except NotaryUnavailable:
            return False
        except UnavailableError as error:
            self._report(error.code, 0)
        except Exception:  # noqa: BLE001 - a fault of ours: later receipts still want their epoch
            self._report("internal", 0)
            await self._clock.sleep(_FAULT_PAUSE_SECONDS)
        else:
            self._anchored(snapshot, quote, location)
        return True

    async def _quoted(self) -> tuple[Snapshot, Quote, EpochEvidence]:
        """Return the log as it is now, with a quote over it.

        1. size, root and counters, in one step; the checkpoint over them
        2. the checkpoint is durable: nothing is quoted that a crash could take back
        3. the statement and its quote
        """
        self._last_start = self._clock.monotonic()
        snapshot = self._log.snapshot()
        statement = self._statement(snapshot)
        await asyncio.shield(snapshot.signed.kept)
        quote = await self._quoter.quote(statement.report_data)
        evidence = EpochEvidence(
            statement=statement,
            quote=quote.raw,
            checkpoint=snapshot.signed.note,
            collateral=self._endorse(),
        )
        return snapshot, quote, evidence

    def _statement(self, snapshot: Snapshot) -> EpochStatement:
        boot, counts, checkpoint = self._boot, snapshot.counts, snapshot.signed.checkpoint
        return EpochStatement(
            bootseed=boot.bootseed,
            boot_quote_digest=boot.boot_quote_digest,
            keyset_digest=boot.keyset_digest,
            epoch=self.book.count,
            size=checkpoint.size,
            root=Digest(checkpoint.root),
            checkpoint_digest=Digest.of(checkpoint.text.encode("utf-8")),
            prev_quote_digest=self._previous,
            grants_digest=counts.grants,
            admitted=counts.admitted,
            completed=counts.completed,
            in_flight=counts.admitted - counts.completed,
            unauthenticated=counts.unauthenticated,
            refused_unreceipted=counts.refused_unreceipted,
            time_claimed=int(self._clock.wall()),
            gpu_digest=boot.gpu_digest,
        )

    def _anchored(self, snapshot: Snapshot, quote: Quote, location: Location) -> None:
        size = snapshot.signed.checkpoint.size
        leaves = size - self.book.covered
        self.book.add(size, location)
        self._previous = quote.digest
        self._completed = snapshot.counts.completed
        self._must_retry = False
        still_dirty = self._log.durable_receipts() > self._completed
        self._dirty_since = self._last_start if still_dirty else None
        for waiter, index in self._waiting.items():
            if index < size:
                _release(waiter)
        self._report("anchored", leaves)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
