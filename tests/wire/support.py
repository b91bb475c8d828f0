"""Frames of a worker, and what became of a request."""

from __future__ import annotations

import asyncio

from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.notary.interface import Found, Notary, ReceiptState
from gateway.notary.wire import announcements, outcomes
from gateway.notary.wire.frames import (
    Kind,
    encode_frame,
)
from tests.support.notaries import ALICE, announcement, outcome


def announce(jti: str) -> bytes:
    return encode_frame(Kind.ANNOUNCE, 0, announcements.encode_announcement(announcement(jti)))


def seal(jti: str, request: int = 1) -> bytes:
    return encode_frame(Kind.SEAL, request, outcomes.encode_outcome(outcome(jti)))


async def found(notary: Notary, jti: str) -> Found:
    one = await notary.find(jti, ALICE)
    assert one is not None
    return one


async def end_of(notary: Notary, jti: str) -> End:
    """How the receipt says its request ended; waits while it runs."""
    async with asyncio.timeout(60):
        while (one := await found(notary, jti)).state is ReceiptState.RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert one.token is not None
    return parse_receipt(one.token).claims.response.end
