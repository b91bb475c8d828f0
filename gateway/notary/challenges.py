"""Challenges: everyone who waits for the same quote gets a path to a nonce tree's root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.merkle.tree import inclusion_path, leaf_hash, root_hash
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Challenge

if TYPE_CHECKING:
    from attestation.tdx.quote import Quote
    from gateway.notary.quoter import Quoter

NONCE_BYTES = 32


class ChallengeDesk:
    """Collects nonces and answers all that wait together with one quote.

    `statement_of` turns a nonce root into the canonical challenge statement and its report
    data; `examine` looks at every quote and raises if it is not from this boot's TD.  Two
    challenge quotes start at least `interval` seconds apart.  `clock` is monotonic.
    """

    def __init__(
        self,
        quoter: Quoter,
        *,
        statement_of: Callable[[Digest], tuple[bytes, bytes]],
        examine: Callable[[Quote], None],
        interval: float,
        max_waiting: int,
        clock: Callable[[], float],
    ) -> None:
        self._quoter = quoter
        self._statement_of = statement_of
        self._examine = examine
        self._interval = interval
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting: list[tuple[bytes, asyncio.Future[Challenge]]] = []
        self._runner: asyncio.Task[None] | None = None
        self._next_start = clock()

    async def ask(self, nonce: bytes) -> Challenge:
        """Return a challenge that covers this nonce.

        Raises `UsageError` for a nonce of another length and `UnavailableError` if too many
        wait or the platform gives no quote.
        """
        if len(nonce) != NONCE_BYTES:
            raise UsageError(
                "a challenge nonce has the wrong length",
                code="nonce",
                expected=f"{NONCE_BYTES} bytes",
                observed=f"{len(nonce)} bytes",
            )
        self._waiting = [(other, waiter) for other, waiter in self._waiting if not waiter.done()]
        if len(self._waiting) >= self._max_waiting:
            raise UnavailableError(
                "too many challenges wait already", code="challenges_busy", hint="try again later"
            )
        waiter: asyncio.Future[Challenge] = asyncio.get_running_loop().create_future()
        self._waiting.append((nonce, waiter))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await waiter

    def close(self) -> None:
        """Fail everyone who waits."""
        if self._runner is not None:
            self._runner.cancel()
        self._fail(self._waiting, NotaryUnavailable("the boot has ended"))
        self._waiting = []

    async def _run(self) -> None:
        while self._waiting:
            delay = self._next_start - self._clock()
            if delay > 0:
                await asyncio.sleep(delay)
            self._next_start = self._clock() + self._interval
            batch, self._waiting = self._waiting, []
            try:
                await self._answer(batch)
            except (AttestationError, NotaryUnavailable) as error:
                self._fail(batch, error)
            except asyncio.CancelledError:
                self._fail(batch, NotaryUnavailable("the boot has ended"))
                raise
            except Exception:  # noqa: BLE001 - a fault of ours must not leave callers waiting
                self._fail(batch, UnavailableError("a challenge failed", code="internal"))
        self._runner = None

    async def _answer(self, batch: list[tuple[bytes, asyncio.Future[Challenge]]]) -> None:
        leaves = [leaf_hash(nonce) for nonce, _ in batch]
        statement, report_data = self._statement_of(Digest(root_hash(leaves)))
        quote = await self._quoter.quote(report_data)
        self._examine(quote)
        for index, (_, waiter) in enumerate(batch):
            if waiter.done():  # the caller went away
                continue
            waiter.set_result(
                Challenge(
                    statement=statement,
                    quote=quote.raw,
                    index=index,
                    count=len(batch),
                    path=tuple(inclusion_path(index, leaves)),
                )
            )

    @staticmethod
    def _fail(batch: list[tuple[bytes, asyncio.Future[Challenge]]], error: Exception) -> None:
        for _, waiter in batch:
            if not waiter.done():
                waiter.set_exception(error)
