"""Challenges: everyone who waits for the same quote gets a path to a nonce tree's root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from attestation.encoding.digest import Digest
from attestation.errors import AttestationError, UnavailableError, UsageError
from attestation.merkle.tree import leaf_hash, node_hash
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Challenge
from gateway.notary.quotes.turns import Purpose

if TYPE_CHECKING:
    from attestation.tdx.quote import Quote
    from gateway.notary.clock import Clock
    from gateway.notary.quotes.quoter import Quoter

NONCE_BYTES = 32


class ChallengeDesk:
    """Collects nonces and answers all that wait together with one quote.

    `statement_of` turns a nonce root into the canonical challenge statement and its report
    data; `examine` looks at every quote and raises if it is not from this boot's TD.  Two
    challenge quotes start at least `interval` seconds apart.
    """

    def __init__(
        self,
        quoter: Quoter,
        *,
        statement_of: Callable[[Digest], tuple[bytes, bytes]],
        examine: Callable[[Quote], None],
        interval: float,
        max_waiting: int,
        clock: Clock,
    ) -> None:
        self._quoter = quoter
        self._statement_of = statement_of
        self._examine = examine
        self._interval = interval
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting: list[tuple[bytes, asyncio.Future[Challenge]]] = []
        self._runner: asyncio.Task[None] | None = None
        self._next_start = clock.monotonic()

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
        try:
            while self._waiting:
                delay = self._next_start - self._clock.monotonic()
                if delay > 0:
                    await self._clock.sleep(delay)
                async with self._quoter.turns.turn(Purpose.CHALLENGE):
                    await self._serve()
        finally:
            self._runner = None

    async def _serve(self) -> None:
        """Answer everyone who waits by now, or tell them all what went wrong."""
        self._next_start = self._clock.monotonic() + self._interval
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

    async def _answer(self, batch: list[tuple[bytes, asyncio.Future[Challenge]]]) -> None:
        root, paths = _root_and_paths([leaf_hash(nonce) for nonce, _ in batch])
        statement, report_data = self._statement_of(Digest(root))
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
                    path=tuple(paths[index]),
                )
            )

    @staticmethod
    def _fail(batch: list[tuple[bytes, asyncio.Future[Challenge]]], error: Exception) -> None:
        for _, waiter in batch:
            if not waiter.done():
                waiter.set_exception(error)


def _root_and_paths(leaves: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """Return the root over leaf hashes and the audit path of each, leaf first (RFC 6962).

    All of them in one walk: asking for one path after the other would cost a tree each.
    """
    paths: list[list[bytes]] = [[] for _ in leaves]

    def walk(low: int, high: int) -> bytes:
        if high - low == 1:
            return leaves[low]
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        left, right = walk(low, middle), walk(middle, high)
        for path in paths[low:middle]:
            path.append(right)
        for path in paths[middle:high]:
            path.append(left)
        return node_hash(left, right)

    return walk(0, len(leaves)), paths
