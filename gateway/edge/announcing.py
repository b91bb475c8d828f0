"""Announcing a request to the notary, and seeing to those that nobody serves after all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from attestation.encoding.making import maker_of
from attestation.receipt.dialect import dialect_of
from attestation.receipt.exchange import Exchange
from attestation.receipt.outcome import LineageContext, abandoned
from gateway.errors import NotaryUnavailable
from gateway.notary.interface import Announcement

if TYPE_CHECKING:
    from attestation.receipt.padding import Shaping
    from gateway.access.principal import Principal
    from gateway.edge.headers import RequestHead
    from gateway.edge.waiting import NotaryWaits
    from gateway.notary.interface import Notary

_METHOD: Final = "POST"
_announcement = maker_of(Announcement)


class Announcing:
    """Every request of this process is announced here; `waits` says when none is to be."""

    def __init__(self, notary: Notary, waits: NotaryWaits) -> None:
        self._notary = notary
        self._waits = waits
        self._sealing: set[asyncio.Task[None]] = set()

    def announce(
        self, jti: str, path: str, principal: Principal, head: RequestHead
    ) -> Announcement:
        """Number a request, or raise `NotaryUnavailable` while none is taken."""
        if self._waits.reason or not self._notary.healthy:
            raise NotaryUnavailable("the notary is not healthy")
        announcement = _announcement(
            jti=jti,
            method=_METHOD,
            path=path,
            sub=principal.sub,
            grant_digest=principal.grant_digest,
            lineage=head.lineage,
        )
        self._notary.announce(announcement)
        return announcement

    def forsake(self, announced: Announcement) -> None:
        """Have a request sealed that nobody serves: the notary may come to know of it yet."""
        sealing = asyncio.get_running_loop().create_task(self._seal_forsaken(announced))
        self._sealing.add(sealing)
        sealing.add_done_callback(self._sealing.discard)

    async def _seal_forsaken(self, announced: Announcement) -> None:
        outcome = abandoned(
            jti=announced.jti,
            method=announced.method,
            path=announced.path,
            sub=announced.sub,
            grant_digest=announced.grant_digest,
            lineage=announced.lineage or LineageContext(txn=announced.jti, span=announced.jti[:16]),
        )
        with contextlib.suppress(NotaryUnavailable):
            await self._notary.seal(outcome)


def exchange_of(
    announced: Announcement, head: RequestHead, max_frame_bytes: int, shaping: Shaping
) -> Exchange:
    """Return what the receipt of an announced request is collected in."""
    return Exchange(
        jti=announced.jti,
        method=announced.method,
        path=announced.path,
        sub=announced.sub,
        grant_digest=announced.grant_digest,
        dialect=dialect_of(announced.path),
        inline=head.inline,
        nonce=head.nonce,
        lineage=head.lineage,
        max_frame_bytes=max_frame_bytes,
        shaping=shaping,
    )
