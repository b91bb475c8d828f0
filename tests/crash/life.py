"""The whole life of a notary over any file layer, with a promise noted for all it releases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.attester.base import QuoteProvider
from gateway.notary.files import FileLayer
from gateway.notary.interface import ReceiptState, SealedReceipt
from gateway.notary.local import LocalNotary
from gateway.notary.parts import NotaryLimits, NotaryParts
from gateway.notary.quotes.epochs import Pacing
from tests.crash.promises import Released
from tests.support.notaries import ALICE, announcement, new_jti, notary_parts, outcome

Promise = Callable[[str, Any], None]

# Everything happens many times in a short life; segments hold a handful of receipts.
QUICK = NotaryLimits(
    quote_interval=0.0,
    checkpoint_seconds=0.01,
    pacing=Pacing(seconds=0.03, forced_seconds=0.01),
    export_seconds=0.01,
    segment_bytes=12_000,
    closing_seconds=5.0,
)


def parts_of(base: Path, layer: FileLayer, provider: QuoteProvider, **changes: Any) -> NotaryParts:
    """Parts of a notary over `base`/data."""
    changes = {"limits": QUICK, "layer": layer, "provider": provider, **changes}
    return notary_parts(base, **changes)


@dataclass(slots=True, kw_only=True)
class Life:
    """One boot and its only caller."""

    notary: LocalNotary
    promise: Promise

    @classmethod
    async def start(cls, parts: NotaryParts, promise: Promise) -> Life:
        """Start a boot.  Raises `UnavailableError`."""
        notary = await LocalNotary.start(parts)
        life = cls(notary=notary, promise=promise)
        promise("ready", (life.folder, None))
        try:
            await life.show()
        except BaseException:
            await notary.close()
            raise
        return life

    @property
    def folder(self) -> str:
        return self.notary.boot.log_origin.rpartition("/")[2]

    async def seal(self, count: int) -> list[SealedReceipt]:
        """Seal so many requests at once; each is promised as soon as it is released."""
        return await asyncio.gather(*(self._one() for _ in range(count)))

    async def _one(self) -> SealedReceipt:
        jti = new_jti()
        self.notary.announce(announcement(jti))
        receipt = await self.notary.seal(outcome(jti))
        self.promise(
            "receipt",
            Released(
                folder=self.folder,
                sub=ALICE.value,
                jti=jti,
                index=receipt.index,
                token=receipt.token,
            ),
        )
        return receipt

    async def show(self) -> None:
        """Read the checkpoint as anybody may."""
        note = await self.notary.read_log("checkpoint")
        if note is not None:
            self.promise("checkpoint", (self.folder, note.decode()))

    async def anchor(self, receipt: SealedReceipt) -> None:
        """Wait until a receipt is anchored and show its proof."""
        found = await self.notary.find(receipt.jti, ALICE, wait_seconds=20)
        assert found is not None
        if found.state is ReceiptState.ANCHORED and found.epoch is not None:
            assert found.proof is not None
            self.promise("anchored", (self.folder, (receipt.jti, found.proof)))
            self.promise("epoch", (self.folder, found.epoch.statement.epoch))
            await self.show()

    async def close(self) -> None:
        await self.notary.close()
        # A write that fails while it closes ends the boot as any other does.
        if self.notary.reason == "closed":
            self.promise("closed", (self.folder, None))


async def live(parts: NotaryParts, promise: Promise) -> None:
    """Single receipts, batches, epochs, rotations, checkpoints, exports, and an orderly end.

    Whatever breaks such a life, its threads and files are closed: a process that dies takes them
    along, and a thousand lives in this one would not.
    """
    life = await Life.start(parts, promise)
    try:
        await _days_of(life)
    except BaseException:
        await life.notary.close()
        raise
    await life.close()


async def _days_of(life: Life) -> None:
    (first,) = await life.seal(1)
    await life.anchor(first)
    for count in (1, 3, 8):
        await life.seal(count)
        await life.show()
    (*_, last) = await life.seal(12)
    await life.anchor(last)
    await life.seal(2)
    dangling = new_jti()
    life.notary.announce(announcement(dangling))  # sealed by the notary itself as it closes


def without_loop(parts: NotaryParts, promise: Promise) -> None:
    """Live in an event loop of its own."""
    asyncio.run(live(parts, promise))
