"""Signed checkpoints of the durable log: soon after it grew, and for every epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.merkle.checkpoint import Checkpoint
from attestation.merkle.note import sign_note
from gateway.errors import NotaryUnavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gateway.notary.clock import Clock
    from gateway.notary.counts import Mark
    from gateway.notary.log.segments import Location

# Of the time a checkpoint may take, a part is left for the sync that makes it durable.
_SHARE_OF_TIME = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint, its note, and the future of its being on the medium."""

    checkpoint: Checkpoint
    note: str
    kept: asyncio.Future[Location]


class Checkpointer:
    """Signs the durable head: never a leaf that is not on the medium.

    `head` gives it, `keep` writes a note to the log and returns the future of its durability;
    `publish` is told each note once it is durable.  A grown head is signed within `seconds`.
    """

    def __init__(
        self,
        origin: str,
        key: Ed25519PrivateKey,
        *,
        head: Callable[[], Mark],
        keep: Callable[[str], asyncio.Future[Location]],
        publish: Callable[[SignedCheckpoint], None],
        seconds: float,
        clock: Clock,
    ) -> None:
        self._origin = origin
        self._key = key
        self._head = head
        self._keep = keep
        self._publish = publish
        self._delay = seconds * _SHARE_OF_TIME
        self._clock = clock
        self._latest: SignedCheckpoint | None = None
        self._timer: asyncio.Task[None] | None = None

    def notice(self) -> None:
        """The durable head may have grown: have it signed in time."""
        if self._timer is None and not self._is_signed():
            self._timer = asyncio.create_task(self._sign_later())

    def sign(self) -> SignedCheckpoint:
        """Return the checkpoint of the durable head as it is in this step.

        One size is signed once.  Raises `NotaryUnavailable` if the log takes nothing any more.
        """
        latest = self._latest
        head = self._head()
        if latest is not None and latest.checkpoint.size == head.size:
            return latest
        checkpoint = Checkpoint(origin=self._origin, size=head.size, root=head.root.value)
        note = sign_note(checkpoint.text, self._origin, self._key)
        signed = SignedCheckpoint(checkpoint=checkpoint, note=note, kept=self._keep(note))
        signed.kept.add_done_callback(lambda done: self._kept(signed, done))
        self._latest = signed
        return signed

    def close(self) -> None:
        """Sign nothing by itself any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def _sign_later(self) -> None:
        try:
            await self._clock.sleep(self._delay)
            signed = self.sign()
        except NotaryUnavailable:
            return  # the log takes nothing any more: the boot has ended
        finally:
            self._timer = None
        await asyncio.wait({signed.kept})
        self.notice()  # the log may have grown while this one was written

    def _kept(self, signed: SignedCheckpoint, done: asyncio.Future[Location]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._publish(signed)

    def _is_signed(self) -> bool:
        return self._latest is not None and self._latest.checkpoint.size == self._head().size
