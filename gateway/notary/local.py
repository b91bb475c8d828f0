"""The notary in this process: ledger, journal and quoter behind the interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, MalformedError, UnavailableError
from attestation.receipt.signing import parse_receipt
from attestation.statement import ChallengeStatement
from gateway.errors import NotaryUnavailable
from gateway.notary.boot import BootSecrets, require_same_domain, start_boot
from gateway.notary.commit import GroupCommit
from gateway.notary.interface import (
    Announcement,
    Boot,
    Challenge,
    Found,
    ReceiptState,
    SealedReceipt,
)
from gateway.notary.journal import Journal, store_file
from gateway.notary.ledger import Ledger, LedgerBoot, OutcomeRefused, Sequenced
from gateway.notary.parts import boot_files, openings_of, public_boot
from gateway.notary.quotes.challenges import ChallengeDesk
from gateway.notary.quotes.quoter import Quoter, in_thread

if TYPE_CHECKING:
    from pathlib import Path

    from attestation.bundle import EpochEvidence
    from attestation.receipt.outcome import Outcome
    from attestation.tdx.quote import Quote
    from gateway.notary.parts import NotaryParts

MAX_WAIT_SECONDS = 30.0


class LocalNotary:
    """One boot, in the process that serves.  Use it from one event loop only."""

    def __init__(self, parts: NotaryParts, boot: Boot, ledger_boot: LedgerBoot) -> None:
        """Wire a quoted boot; `start` is how one comes into being."""
        limits = parts.limits
        self._parts = parts
        self._boot = boot
        self._started = ledger_boot.started
        self._secret = ledger_boot.drawn.commitment
        self._ledger = Ledger(
            ledger_boot,
            wall=parts.clock.wall,
            retain_receipts=limits.retain_receipts,
            max_tasks=limits.max_tasks,
        )
        bootseed = ledger_boot.drawn.bootseed
        self._journal = Journal.create(
            parts.layer, parts.data_dir, f"{bootseed.hex()[:16]}.journal"
        )
        self._commit = GroupCommit(
            self._journal,
            before_batch=self._take_batch,
            after_batch=self._note_batch,
            on_failure=lambda: self._end("journal_failed"),
        )
        self._durable = self._ledger.head
        self._watchers: dict[str, asyncio.Event] = {}
        self._reason = ""
        self._closing = False
        self._desk = ChallengeDesk(
            Quoter(parts.provider, timeout=limits.quote_timeout, clock=parts.clock),
            statement_of=self._challenge_statement,
            examine=self._examine,
            interval=limits.quote_interval,
            max_waiting=limits.max_challenges,
            clock=parts.clock,
        )

    @classmethod
    async def start(cls, parts: NotaryParts) -> Self:
        """Start a boot: secrets, RTMR3 event, quote, journal, leaf 0.

        Returns when the boot statement is durable as leaf 0.  Raises `UnavailableError`.
        """
        drawn = BootSecrets.draw()
        call = in_thread(lambda: start_boot(parts.provider, parts.plan, drawn))
        try:
            started = await asyncio.wait_for(call, parts.limits.quote_timeout)
        except TimeoutError:
            raise UnavailableError(
                "the platform gave no boot quote in time",
                code="quote_timeout",
                expected=f"a quote within {parts.limits.quote_timeout:g} s",
                hint="check the quoting service, or raise evidence.quote_timeout",
            ) from None
        ledger_boot = LedgerBoot(
            issuer=parts.plan.name, provider=parts.provider.name, started=started, drawn=drawn
        )
        notary = cls(parts, public_boot(parts, started), ledger_boot)
        try:
            await notary._open()
        except NotaryUnavailable as error:
            raise UnavailableError(
                "the journal of this boot cannot be written",
                code="journal_failed",
                hint="check the disk of notary.data_dir",
            ) from error
        return notary

    @property
    def boot(self) -> Boot:
        """The boot whose receipts this notary signs."""
        return self._boot

    @property
    def healthy(self) -> bool:
        """Whether a request announced now can be expected to get its receipt."""
        return not self._reason and not self._closing

    @property
    def reason(self) -> str:
        """A stable code for why the notary is not healthy; empty while it is."""
        return self._reason or ("closing" if self._closing else "")

    @property
    def journal_path(self) -> Path:
        """The file that this boot appends to; its neighbours have the same stem."""
        return self._journal.path

    def announce(self, announcement: Announcement) -> None:
        """Number the request, or raise `NotaryUnavailable`; see the interface."""
        self._notice_expiry()
        self._require_running()
        if self._closing:
            raise NotaryUnavailable("the notary takes no new requests")
        self._ledger.announce(announcement)
        self._parts.metrics.admitted(announcement.path)

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return the receipt once it is durable; see the interface.

        An outcome that makes no receipt is sealed as `gateway_failure`, and `NotaryUnavailable`
        says so: its answer must not leave.
        """
        self._notice_expiry()
        self._require_running()
        try:
            sequenced, durable = self._sequence(lambda: self._ledger.seal(outcome))
        except OutcomeRefused as error:
            await self.abandon(outcome.jti)
            raise NotaryUnavailable("the outcome could not be sealed as it is") from error
        # Shielded: the index is taken, so the receipt becomes durable whoever still waits.
        await asyncio.shield(durable)
        return SealedReceipt(
            jti=sequenced.jti,
            token=sequenced.token,
            openings=sequenced.openings,
            index=sequenced.index,
            digest=sequenced.digest,
        )

    def count_unauthenticated(self) -> None:
        """Count a request that no key owns."""
        self._ledger.unauthenticated += 1
        self._parts.metrics.unauthenticated()

    def count_unreceipted(self) -> None:
        """Count a refusal above its key's rate."""
        self._ledger.unreceipted += 1
        self._parts.metrics.unreceipted()

    async def find(
        self, receipt_id: str, sub: Digest, *, wait_seconds: float = 0.0
    ) -> Found | None:
        """Look up a receipt for its owner; see the interface.

        This notary has no epochs: `sealed` is the last state there is, and nothing waits for
        more than that.
        """
        self._require_running()
        found = self._ledger.find(receipt_id, sub)
        if found is not None and found[1] is None and wait_seconds > 0:
            await self._wait_for(found[0], min(wait_seconds, MAX_WAIT_SECONDS))
            self._require_running()
            found = self._ledger.find(receipt_id, sub)
        if found is None:
            return None
        jti, stored = found
        if stored is None:
            return Found(jti=jti, state=ReceiptState.RUNNING)
        token = self._read(stored.offset)
        openings = openings_of(parse_receipt(token).claims, self._secret)
        return Found(jti=jti, state=ReceiptState.SEALED, token=token, openings=openings)

    async def challenge(self, nonce: bytes) -> Challenge:
        """Return a quote fresh for this nonce; see the interface."""
        self._require_running()
        try:
            challenge = await self._desk.ask(nonce)
        except AttestationError as error:
            self._parts.metrics.challenged(error.code)
            raise
        self._parts.metrics.challenged("ok")
        return challenge

    async def read_log(self, path: str) -> bytes | None:  # noqa: ARG002 - see the interface
        """Return a resource of the log; this notary publishes none yet."""
        self._require_running()
        return None

    async def epoch(self, number: int | None) -> EpochEvidence | None:  # noqa: ARG002
        """Return an epoch; this notary has none yet."""
        self._require_running()
        return None

    async def metrics_text(self) -> bytes:
        """Return the notary's metrics in Prometheus' text format."""
        return self._parts.metrics.render()

    async def close(self) -> None:
        """Seal what is left as `gateway_failure`, make it durable, end the boot."""
        if self._closing:
            return
        self._closing = True
        self._desk.close()
        self._notice_expiry()
        if not self._reason:
            left = [self.abandon(jti) for jti in self._ledger.running()]
            await asyncio.gather(*left, return_exceptions=True)
        await self._commit.close()
        self._end("closed")

    async def _open(self) -> None:
        for suffix, data in boot_files(self._boot).items():
            store_file(self._parts.layer, self._journal.path.with_suffix(suffix), data)
        _, durable = self._commit.submit(self._ledger.open())
        await durable
        self._parts.metrics.healthy(1)

    async def abandon(self, jti: str) -> None:
        """Seal an announced request as `gateway_failure`: whoever served it is gone.

        Nothing happens if it is sealed already.  Returns when its receipt is durable.
        """
        if jti not in self._ledger.running():
            return
        try:
            _, durable = self._sequence(lambda: self._ledger.abandon(jti))
        except OutcomeRefused as error:
            self._end("sequence_failed")
            raise NotaryUnavailable("an abandoned request could not be sealed") from error
        await asyncio.shield(durable)

    def _sequence(self, seal: Callable[[], Sequenced]) -> tuple[Sequenced, asyncio.Future[None]]:
        """Take the index and queue the record, without anything in between.

        Whatever fails once the index may be taken ends the boot: a hole in the sequence could
        not be told from a removed receipt.
        """
        try:
            sequenced = seal()
            offset, durable = self._commit.submit(sequenced.record)
        except OutcomeRefused:
            raise
        except Exception as error:
            self._end("sequence_failed")
            raise NotaryUnavailable("sequencing a receipt failed") from error
        durable.add_done_callback(lambda done: self._settle(sequenced, offset, done))
        return sequenced, durable

    def _settle(self, sequenced: Sequenced, offset: int, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        self._ledger.settle(sequenced, offset)
        self._parts.metrics.sealed(sequenced.path, str(sequenced.end))
        watcher = self._watchers.pop(sequenced.jti, None)
        if watcher is not None:
            watcher.set()

    def _take_batch(self) -> tuple[float, tuple[int, Digest]]:
        return self._parts.clock.monotonic(), self._ledger.head

    def _note_batch(self, state: tuple[float, tuple[int, Digest]], records: int) -> None:
        began, self._durable = state
        self._parts.metrics.committed(
            records=records,
            seconds=self._parts.clock.monotonic() - began,
            log_size=self._durable[0],
        )

    def _challenge_statement(self, nonce_root: Digest) -> tuple[bytes, bytes]:
        statement = self._started.evidence.statement
        size, root = self._durable
        challenge = ChallengeStatement(
            bootseed=statement.bootseed,
            boot_quote_digest=self._started.quote.digest,
            keyset_digest=statement.keyset_digest,
            nonce_root=nonce_root,
            size=size,
            root=root,
        )
        return challenge.canonical, challenge.report_data

    def _examine(self, quote: Quote) -> None:
        try:
            require_same_domain(quote, self._started.quote)
        except UnavailableError as error:
            self._end("td_changed")
            raise NotaryUnavailable("this trust domain is not the one that booted") from error

    async def _wait_for(self, jti: str, seconds: float) -> None:
        watcher = self._watchers.setdefault(jti, asyncio.Event())
        try:
            await asyncio.wait_for(watcher.wait(), seconds)
        except TimeoutError:
            return

    def _read(self, offset: int) -> str:
        try:
            return self._journal.read(offset).payload.decode("ascii")
        except (OSError, MalformedError) as error:
            raise UnavailableError(
                "a receipt cannot be read back from the journal", code="journal_unreadable"
            ) from error

    def _notice_expiry(self) -> None:
        """End the boot with its keyset: verifiers refuse receipts that were issued later."""
        if self._parts.clock.wall() >= self._started.evidence.keyset.not_after:
            self._end("keyset_expired")

    def _require_running(self) -> None:
        if self._reason:
            raise NotaryUnavailable(f"the boot has ended: {self._reason}")

    def _end(self, reason: str) -> None:
        """End the boot; only the first reason counts."""
        if self._reason:
            return
        self._reason = reason
        self._parts.metrics.healthy(0)
        self._desk.close()
        for watcher in self._watchers.values():
            watcher.set()
        self._parts.on_end(reason)
