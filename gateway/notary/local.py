"""The notary in this process: ledger, log, quoter and epochs behind the interface."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from attestation.errors import AttestationError, UnavailableError
from gateway.errors import NotaryUnavailable
from gateway.notary.checkpointer import Checkpointer, SignedCheckpoint
from gateway.notary.finding import Finder, FinderParts
from gateway.notary.history import Caretaker
from gateway.notary.interface import Announcement, Boot, Challenge, Found, SealedReceipt
from gateway.notary.ledger import Ledger
from gateway.notary.lifetime import Lifetime
from gateway.notary.log.earlier import EarlierBoots
from gateway.notary.log.export import Exporter
from gateway.notary.log.folder import CHECKPOINT
from gateway.notary.quotes.desks import QuotedLog, Quotes
from gateway.notary.renewal import Renewal
from gateway.notary.sealing import Sealing
from gateway.notary.sequencer import Sequencer
from gateway.notary.starting import Started, open_boot

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.bundle import EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.receipt.outcome import Outcome
    from gateway.notary.interface import Sealed
    from gateway.notary.parts import NotaryParts


class LocalNotary:
    """One boot, in the process that serves.  Use it from one event loop only."""

    def __init__(self, parts: NotaryParts, started: Started) -> None:
        """Wire a quoted boot with its log; `start` is how one comes into being."""
        self._parts = parts
        self._started = started
        self._lifetime = Lifetime(self._on_end)
        self._not_after = started.boot.evidence.keyset.not_after
        self._ledger = Ledger(
            started.ledger_boot,
            started.tree,
            started.index,
            wall=parts.clock.wall,
            max_tasks=parts.limits.max_tasks,
        )
        self._sequencer = Sequencer(
            self._ledger,
            started.store,
            lifetime=self._lifetime,
            metrics=parts.metrics,
            clock=parts.clock,
            on_growth=self._on_growth,
        )
        self._sealing = Sealing(
            self._ledger, self._sequencer, require_running=self._require_running
        )
        self._checkpointer = Checkpointer(
            started.boot.log_origin,
            started.ledger_boot.drawn.log_key,
            head=lambda: self._sequencer.durable,
            keep=self._sequencer.keep_note,
            publish=self._publish,
            seconds=parts.limits.checkpoint_seconds,
            clock=parts.clock,
        )
        self._published: SignedCheckpoint | None = None
        self._renewal = Renewal(parts, started.boot, started.endorser, started.store.folder)
        self._loop = asyncio.get_running_loop()
        self._exporter = Exporter(
            started.static,
            seconds=parts.limits.export_seconds,
            on_failure=self._export_failed,
        )
        self._quotes = Quotes(
            parts,
            started.boot.evidence,
            started.quote,
            QuotedLog(sequencer=self._sequencer, checkpointer=self._checkpointer),
            self._lifetime,
            self._renewal.endorsed_by,
        )
        self._finder = Finder(
            FinderParts(
                boot=started.boot,
                secret=started.ledger_boot.drawn.commitment,
                ledger=self._ledger,
                sequencer=self._sequencer,
                desk=self._quotes.epochs,
                index=started.index,
                earlier=EarlierBoots(parts.layer, parts.data_dir, started.index),
                store=started.store,
                tree=started.tree,
                lifetime=self._lifetime,
                clock=parts.clock,
            )
        )
        self._caretaker = Caretaker(
            parts,
            started.history,
            started.store,
            started.index,
            exported=lambda: self._exporter.exported,
        )

    @classmethod
    async def start(cls, parts: NotaryParts) -> Self:
        """Start a boot: earlier boots, secrets, RTMR3 event, quote, log, leaf 0, checkpoint.

        Returns when the boot statement is durable as leaf 0, and a checkpoint over it.  Raises
        `UnavailableError`.
        """
        started = await open_boot(parts)
        notary = cls(parts, started)
        try:
            await notary._open()
        except BaseException as error:
            # Whatever ended the start, a cancelled caller included: threads and files are closed.
            await notary.close()
            if not isinstance(error, NotaryUnavailable):
                raise
            raise UnavailableError(
                "the log of this boot cannot be written",
                code="log_failed",
                hint="check the disk of notary.data_dir",
            ) from error
        return notary

    @property
    def boot(self) -> Boot:
        """The boot whose receipts this notary signs."""
        return self._renewal.boot

    @property
    def healthy(self) -> bool:
        """Whether a request announced now can be expected to get its receipt."""
        return self._lifetime.healthy

    @property
    def reason(self) -> str:
        """A stable code for why the notary is not healthy; empty while it is."""
        return self._lifetime.reason or ("closing" if self._lifetime.closing else "")

    @property
    def folder(self) -> Path:
        """The folder of this boot: its evidence, its segments, its static log."""
        return self._started.store.folder

    def announce(self, announcement: Announcement) -> None:
        """Number the request, or raise `NotaryUnavailable`; see the interface."""
        self._notice_expiry()
        try:
            self._lifetime.require_open()
        except NotaryUnavailable:
            # The end of the boot leaves an id with the connection that announced it.
            self._ledger.require_new(announcement.jti)
            raise
        self._ledger.announce(announcement)
        self._parts.metrics.admitted(announcement.path)

    def hand_over(self) -> bool:
        """Say that there is nothing to wait for: the notary is here."""
        return True

    async def handed_over(self) -> None:
        """Return at once: the notary is here."""

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return the receipt once it is durable; see the interface.

        An outcome that makes no receipt is sealed as `gateway_failure`, and `NotaryUnavailable`
        says so: its answer must not leave.
        """
        return await self._sealing.seal(outcome)

    def seal_soon(self, outcome: Outcome, told: Sealed) -> None:
        """As `seal`, without anybody who waits: `told` hears what came of it."""
        self._sealing.seal_soon(outcome, told)

    async def abandon(self, jti: str) -> None:
        """Seal an announced request as `gateway_failure`; see `Sealing.abandon`."""
        await self._sealing.abandon(jti)

    def count_unauthenticated(self, count: int = 1) -> None:
        """Count requests that no key owns."""
        self._parts.metrics.unauthenticated(count)
        self._ledger.count_unauthenticated(count)

    def count_unreceipted(self, count: int = 1) -> None:
        """Count refusals above their keys' rates."""
        self._parts.metrics.unreceipted(count)
        self._ledger.count_unreceipted(count)

    async def find(
        self, receipt_id: str, sub: Digest, *, wait_seconds: float = 0.0
    ) -> Found | None:
        """Look up a receipt for its owner; see the interface."""
        self._lifetime.require_running()
        return await self._finder.find(receipt_id, sub, wait_seconds)

    async def challenge(self, nonce: bytes) -> Challenge:
        """Return a quote fresh for this nonce; see the interface."""
        self._lifetime.require_running()
        try:
            challenge = await self._quotes.challenges.ask(nonce)
        except AttestationError as error:
            self._parts.metrics.challenged(error.code)
            raise
        self._parts.metrics.challenged("ok")
        return challenge

    async def read_log(self, path: str) -> bytes | None:
        """Return a resource of the log; see the interface."""
        self._lifetime.require_running()
        if path == CHECKPOINT:
            return None if self._published is None else self._published.note.encode("utf-8")
        return await asyncio.to_thread(self._started.tree.read_resource, path)

    async def epoch(self, number: int | None) -> EpochEvidence | None:
        """Return an epoch of this boot; see the interface."""
        self._lifetime.require_running()
        return await self._finder.epoch(number)

    async def metrics_text(self) -> bytes:
        """Return the notary's metrics in Prometheus' text format."""
        return self._parts.metrics.render()

    async def close(self) -> None:
        """Seal what is left, have the end of the log quoted, signed and exported; end the boot."""
        if self._lifetime.closing:
            return
        self._lifetime.closing = True
        self._quotes.challenges.close()
        self._caretaker.close()
        self._renewal.close()
        self._finder.close()
        self._notice_expiry()
        if not self._lifetime.reason:
            await self._finish()
        self._quotes.close()
        self._checkpointer.close()
        await self._sequencer.close()
        await asyncio.to_thread(self._exporter.close)
        await asyncio.to_thread(self._started.index.close)
        self._lifetime.end("closed")
        self._started.release()

    async def _open(self) -> None:
        self._exporter.start()
        self._started.index.start()
        await self._sequencer.open()
        await asyncio.shield(self._checkpointer.sign().kept)
        self._parts.metrics.healthy(1)
        self._caretaker.start()
        self._renewal.start()

    async def _finish(self) -> None:
        left = [self.abandon(jti) for jti in self._ledger.running()]
        await asyncio.gather(*left, return_exceptions=True)
        await self._quotes.epochs.finish(self._parts.limits.closing_seconds)
        if not self._lifetime.reason:
            await asyncio.wait({self._checkpointer.sign().kept})

    def _on_growth(self) -> None:
        self._checkpointer.notice()
        self._quotes.epochs.notice()

    def _publish(self, signed: SignedCheckpoint) -> None:
        self._published = signed
        self._started.tree.publish(signed.checkpoint.size)
        self._exporter.note(signed.checkpoint.size, signed.note)
        self._parts.metrics.checkpointed()

    def _export_failed(self) -> None:
        """Called in the exporter's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the boot with it
            self._loop.call_soon_threadsafe(self._lifetime.end, "export_failed")

    def _notice_expiry(self) -> None:
        """End the boot with its keyset: verifiers refuse receipts that were issued later."""
        if self._parts.clock.wall() >= self._not_after:
            self._lifetime.end("keyset_expired")

    def _require_running(self) -> None:
        self._notice_expiry()
        self._lifetime.require_running()

    def _on_end(self, reason: str) -> None:
        self._parts.metrics.healthy(0)
        self._quotes.close()
        self._checkpointer.close()
        self._sequencer.release_watchers()
        self._parts.on_end(reason)
