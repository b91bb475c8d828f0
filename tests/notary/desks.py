"""An epoch desk over a log in memory, on a simulated platform, in time that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.bundle import EpochEvidence
from attestation.encoding.digest import Digest
from attestation.errors import UnavailableError
from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from attestation.statement import EpochStatement, grants_digest
from attestation.tdx.quote import Quote, canonical_quote, parse_quote
from gateway.attester.simulated.platform import SimulatedPlatform
from gateway.errors import NotaryUnavailable
from gateway.notary.checkpointer import SignedCheckpoint
from gateway.notary.counts import Counts
from gateway.notary.log.segments import Location
from gateway.notary.quotes.epochs import EpochDesk, Pacing, QuotedBoot, Snapshot
from gateway.notary.quotes.turns import Turns
from tests.support.clocks import FakeTime

ORIGIN = "gw.test/0000000000000000"
PLATFORM = SimulatedPlatform(now=1_763_668_800, seed=b"epoch desk")
BOOT_QUOTE = Digest.of(b"the boot quote")


class FakeQuoter:
    """A quoter whose quotes take `latency` seconds of the test's time, and fail when told to."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time
        self.turns = Turns()
        self.latency = 0.0
        self.pause = 1.0
        self.faults: Iterator[str] = iter(())
        self.asked: list[float] = []
        self._not_before = 0.0

    async def until_ready(self) -> None:
        rest = self._not_before - self._time.now
        if rest > 0:
            await self._time.clock.sleep(rest)

    async def quote(self, report_data: bytes) -> Quote:
        self.asked.append(self._time.now)
        if self.latency:
            await self._time.clock.sleep(self.latency)
        fault = next(self.faults, "")
        if fault:
            self._not_before = self._time.now + self.pause
            raise UnavailableError("none", code=fault)
        return parse_quote(canonical_quote(PLATFORM.quote(report_data)))


class FakeLog:
    """A log of which a test says what is durable; epochs become leaves at once."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.size = 1
        self.receipts = 0
        self.running = 0
        self.epochs: list[EpochEvidence] = []
        self.checkpoint_kept: asyncio.Future[Location] | None = None
        self.ended = False

    def durable_receipts(self) -> int:
        return self.receipts

    def snapshot(self) -> Snapshot:
        root = Digest.of(b"root %d" % self.size).value
        checkpoint = Checkpoint(origin=ORIGIN, size=self.size, root=root)
        kept = self.checkpoint_kept
        if kept is None:
            kept = asyncio.get_running_loop().create_future()
            kept.set_result(Location(0, 0))
        note = sign_note(checkpoint.text, ORIGIN, self._key)
        counts = Counts(
            admitted=self.receipts + self.running,
            completed=self.receipts,
            unauthenticated=3,
            refused_unreceipted=4,
            grants=grants_digest([Digest.of(b"grant")]),
        )
        return Snapshot(
            signed=SignedCheckpoint(checkpoint=checkpoint, note=note, kept=kept), counts=counts
        )

    async def append_epoch(self, evidence: EpochEvidence) -> Location:
        if self.ended:
            raise NotaryUnavailable("the log takes nothing")
        self.epochs.append(evidence)
        self.size += 1
        return Location(0, 100 * self.size)


class Bench:
    """A desk and everything around it."""

    def __init__(self, pacing: Pacing | None = None) -> None:
        self.time = FakeTime()
        self.quoter = FakeQuoter(self.time)
        self.log = FakeLog()
        self.reports: list[tuple[str, int]] = []
        self.strange = False
        self.desk = EpochDesk(
            self.quoter,  # type: ignore[arg-type]
            self.log,
            QuotedBoot(
                bootseed=bytes(32), boot_quote_digest=BOOT_QUOTE, keyset_digest=Digest.of(b"k")
            ),
            pacing=pacing or Pacing(),
            clock=self.time.clock,
            examine=self._examine,
            report=lambda result, leaves: self.reports.append((result, leaves)),
        )

    @property
    def statements(self) -> list[EpochStatement]:
        return [epoch.statement for epoch in self.log.epochs]

    @property
    def starts(self) -> list[float]:
        """When quotes were asked for, in seconds since the test began."""
        return [at - 1_000.0 for at in self.quoter.asked]

    def receipt(self) -> int:
        """One more receipt is durable; its index."""
        self.log.size += 1
        self.log.receipts += 1
        self.desk.notice()
        return self.log.size - 1

    def wait_for(self, index: int, seconds: float = 30.0) -> asyncio.Task[None]:
        return asyncio.create_task(self.desk.wait_anchored(index, seconds))

    def _examine(self, _quote: Quote) -> None:
        if self.strange:
            raise NotaryUnavailable("another trust domain")
