"""Callers under load: plain and streamed requests by several keys, until told to stop."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

from tests.crash.client import Answer, exchange

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One request as its caller saw it.

    `finished`: the answer came to its end with a good status and, if it was a stream, with its
    terminal frame; SPEC section 2 lets that happen only once the receipt is durable.
    """

    key: str
    streamed: bool
    answer: Answer

    @property
    def finished(self) -> bool:
        ended = self.answer.whole and self.answer.status == 200
        return ended and (not self.streamed or b"data: [DONE]\n\n" in self.answer.body)


@dataclass(slots=True, kw_only=True)
class Load:
    """`width` callers at once against whatever listens on `port`."""

    keys: list[str]
    rng: random.Random
    width: int = 8
    sights: list[Sight] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    async def run(self, port: int, stop: asyncio.Event) -> None:
        """Keep requests running until `stop`, then let the last of them end as they can."""
        callers = [asyncio.create_task(self._call(port, stop)) for _ in range(self.width)]
        monitor = asyncio.create_task(self._monitor(port, stop))
        await asyncio.gather(*callers, monitor)

    async def _call(self, port: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            sight = await self._one(port)
            self.sights.append(sight)
            if not sight.answer.status:
                await _pause(stop, 0.02)  # nobody listens at the moment: no busy loop

    async def _one(self, port: int) -> Sight:
        key, streamed = self.rng.choice(self.keys), self.rng.random() < 0.5
        inline = self.rng.random() < 0.8
        words = " ".join(["word"] * self.rng.randint(1, 40))
        body = {
            "model": "stand-in-1",
            "messages": [{"role": "user", "content": words}],
            "stream": streamed,
        }
        data = json.dumps(body).encode()
        answer = await exchange(port, "POST", CHAT, key, data, inline=inline)
        return Sight(key=key, streamed=streamed, answer=answer)

    async def _monitor(self, port: int, stop: asyncio.Event) -> None:
        """Somebody who watches the log: every checkpoint ever shown is remembered."""
        while not stop.is_set():
            answer = await exchange(port, "GET", "/v1/log/checkpoint")
            if answer.whole and answer.status == 200:
                self.notes.append(answer.body.decode())
            await _pause(stop, 0.05)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
