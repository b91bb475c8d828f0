"""Everything a running boot has quoted: the quoter, and who stands in line for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.errors import UnavailableError
from attestation.statement import ChallengeStatement
from gateway.errors import NotaryUnavailable
from gateway.notary.boot import require_same_domain
from gateway.notary.quotes.challenges import ChallengeDesk
from gateway.notary.quotes.epochs import EpochDesk, QuotedBoot, Snapshot
from gateway.notary.quotes.quoter import Quoter

if TYPE_CHECKING:
    from collections.abc import Callable

    from attestation.bundle import BootEvidence, EpochEvidence
    from attestation.encoding.digest import Digest
    from attestation.tdx.quote import Quote
    from gateway.notary.checkpointer import Checkpointer
    from gateway.notary.lifetime import Lifetime
    from gateway.notary.log.segments import Location
    from gateway.notary.parts import NotaryParts
    from gateway.notary.sequencer import Sequencer


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedLog:
    """The log as quotes see it: durable leaves, signed and counted in one step."""

    sequencer: Sequencer
    checkpointer: Checkpointer

    def durable_receipts(self) -> int:
        """How many receipt leaves are on the medium."""
        return self.sequencer.durable.receipts

    def snapshot(self) -> Snapshot:
        """Sign the durable head and count, in one step."""
        return Snapshot(signed=self.checkpointer.sign(), counts=self.sequencer.counts())

    async def append_epoch(self, evidence: EpochEvidence) -> Location:
        """Make a quoted epoch a leaf; return when that is durable."""
        return await self.sequencer.append_epoch(evidence)


class Quotes:
    """The quoter of a boot with its two desks; a quote from another trust domain ends the boot."""

    def __init__(
        self,
        parts: NotaryParts,
        boot: BootEvidence,
        quote: Quote,
        log: QuotedLog,
        lifetime: Lifetime,
        endorse: Callable[[], Digest | None],
    ) -> None:
        self._parts = parts
        self._boot = boot
        self._quote = quote
        self._log = log
        self._lifetime = lifetime
        limits = parts.limits
        self.quoter = Quoter(
            parts.provider,
            timeout=limits.quote_timeout,
            clock=parts.clock,
            observe=parts.metrics.quoted,
        )
        self.challenges = ChallengeDesk(
            self.quoter,
            statement_of=self._challenge_statement,
            examine=self._examine,
            interval=limits.quote_interval,
            max_waiting=limits.max_challenges,
            clock=parts.clock,
        )
        self.epochs = EpochDesk(
            self.quoter,
            log,
            _quoted_boot(boot, quote),
            pacing=limits.pacing,
            clock=parts.clock,
            examine=self._examine,
            report=self._report,
            endorse=endorse,
        )
        parts.metrics.watch_epoch_age(lambda: self.epochs.age)

    def close(self) -> None:
        """Quote nothing any more; whoever waits is let go."""
        self.challenges.close()
        self.epochs.close()

    def _challenge_statement(self, nonce_root: Digest) -> tuple[bytes, bytes]:
        statement, durable = self._boot.statement, self._log.sequencer.durable
        challenge = ChallengeStatement(
            bootseed=statement.bootseed,
            boot_quote_digest=self._quote.digest,
            keyset_digest=statement.keyset_digest,
            nonce_root=nonce_root,
            size=durable.size,
            root=durable.root,
        )
        return challenge.canonical, challenge.report_data

    def _examine(self, quote: Quote) -> None:
        try:
            require_same_domain(quote, self._quote)
        except UnavailableError as error:
            self._lifetime.end("td_changed")
            raise NotaryUnavailable("this trust domain is not the one that booted") from error

    def _report(self, result: str, leaves: int) -> None:
        self._parts.metrics.epoch(result, leaves)
        if result != "anchored":
            self._parts.emit("epoch.failed", reason=result)


def _quoted_boot(boot: BootEvidence, quote: Quote) -> QuotedBoot:
    statement = boot.statement
    return QuotedBoot(
        bootseed=statement.bootseed,
        boot_quote_digest=quote.digest,
        keyset_digest=statement.keyset_digest,
        gpu_digest=statement.gpu_digest,
    )
