"""From outcomes to durable receipts: what has to be looked up first, what cannot be sealed.

Most outcomes are sealed in the step in which they arrive, and `told` is called when their record
is on the medium: no task and no future for each, which cost 30 microseconds a receipt.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from gateway.errors import NotaryUnavailable
from gateway.notary.entries import OutcomeRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from attestation.encoding.digest import Digest
    from attestation.lineage.context import LineageContext
    from attestation.receipt.outcome import Outcome
    from gateway.notary.interface import Sealed, SealedReceipt
    from gateway.notary.ledger import Ledger
    from gateway.notary.sequencer import Sequencer


class Sealing:
    """Seals over one ledger; `require_running` raises `NotaryUnavailable` once the boot ended."""

    def __init__(
        self, ledger: Ledger, sequencer: Sequencer, *, require_running: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._sequencer = sequencer
        self._require_running = require_running
        self._tasks: set[asyncio.Task[None]] = set()

    def seal_soon(self, outcome: Outcome, told: Sealed) -> None:
        """Turn the outcome into its receipt; `told` may be called before this returns."""
        if outcome.lineage.parents:
            # Whoever asks may go while the disk is read: the receipt is made all the same.
            self._keep(self._seal_after_looking(outcome, told))
        else:
            self._seal(outcome, {}, told)

    async def seal(self, outcome: Outcome) -> SealedReceipt:
        """Return the receipt once it is durable; see `Notary.seal`."""
        waiter: asyncio.Future[SealedReceipt] = asyncio.get_running_loop().create_future()
        self.seal_soon(outcome, partial(_settle, waiter))
        return await waiter

    async def abandon(self, jti: str) -> None:
        """Seal an announced request as `gateway_failure`; return when its receipt is durable.

        Nothing happens if it is sealed already.
        """
        announced = self._ledger.announced(jti)
        if announced is None:
            return
        known = await self._parents(announced.sub, announced.lineage)
        durable = self._sequencer.abandon(jti, known)
        if durable is not None:
            await durable

    async def _seal_after_looking(self, outcome: Outcome, told: Sealed) -> None:
        self._seal(outcome, await self._parents(outcome.sub, outcome.lineage), told)

    def _seal(self, outcome: Outcome, known: Mapping[str, Digest], told: Sealed) -> None:
        try:
            self._require_running()
            self._sequencer.seal(outcome, known, told)
        except OutcomeRefused as error:
            self._keep(self._refuse(outcome.jti, error, told))
        except NotaryUnavailable as error:
            told(error)

    async def _refuse(self, jti: str, error: OutcomeRefused, told: Sealed) -> None:
        """What makes no receipt is sealed as `gateway_failure`: its answer must not leave."""
        refusal = NotaryUnavailable("the outcome could not be sealed as it is")
        refusal.__cause__ = error
        try:
            await self.abandon(jti)
        except NotaryUnavailable as ended:
            refusal = ended
        told(refusal)

    async def _parents(self, sub: Digest, lineage: LineageContext | None) -> dict[str, Digest]:
        """Look up declared parents, in a thread: the disk must not hold other receipts up."""
        if lineage is None or not lineage.parents:
            return {}
        try:
            return await asyncio.to_thread(self._ledger.known_parents, sub, lineage.parents)
        except Exception:  # noqa: BLE001 - a parent that cannot be looked up must cost no receipt
            return {}

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds no more than a weak reference
        task.add_done_callback(self._tasks.discard)


def _settle(
    waiter: asyncio.Future[SealedReceipt], result: SealedReceipt | NotaryUnavailable
) -> None:
    if waiter.done():
        return  # whoever asked was cancelled; the receipt is there all the same
    if isinstance(result, NotaryUnavailable):
        waiter.set_exception(result)
    else:
        waiter.set_result(result)
