"""A judge without evidence and a gateway that says what it is told: the transport alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from attestation.errors import EvidenceError
from attestation.receipt.block import render_block
from attestation.receipt.commitments import Openings
from attestation.result import AttestationResult
from gateway.client.call import Call
from gateway.engine.scripted import Script, ScriptedEngine
from gateway.engine.wire import EngineRequest

GOOD = "aaaa.bbbb.cccc"
FORGED = "aaaa.bbbb.dddd"
OPENINGS = Openings(keys={"req": bytes(32), "res": bytes([1]) * 32})
RESULT = AttestationResult(
    checks=(), at=0, policy_digest=None, trust_domains=frozenset(), not_proved=()
)


class TokenJudge:
    """Accepts the receipt `GOOD` and no other."""

    def judge(self, call: Call) -> AttestationResult:
        if call.receipt != GOOD:
            raise EvidenceError("the receipt does not hold", code="test")
        return RESULT


def block(token: str = GOOD) -> bytes:
    return render_block(token, OPENINGS)


def headers(token: str = GOOD) -> tuple[tuple[str, str], ...]:
    return (("x-receipt", token), ("x-receipt-openings", OPENINGS.encode_header()))


class ThreadedEngine:
    """A scripted engine in a thread of its own, for blocking clients."""

    def __init__(self, play: Script | Callable[[EngineRequest], Script]) -> None:
        self.engine: ScriptedEngine
        self.address = ""
        self._play = play
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.address = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.engine.close(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _start(self) -> str:
        self.engine = ScriptedEngine(self._play)
        return await self.engine.start()
