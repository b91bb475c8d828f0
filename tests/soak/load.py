"""Callers of every kind, at a steady rate, until the time is over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access.keyfile import add_key, revoke_key
from gateway.access.principal import Grant, subject_of
from gateway.engine.standin import StandInEngine
from tests.crash.client import Answer, exchange

CHAT = "/v1/chat/completions"
_BIG = 1 << 20
_BROKEN = (
    b"POST /v1/chat/completions HTTP/1.0\r\nhost: a\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
_REFUSED = (b"{", b'{"model":1}', b'{"model":"x","n":99}', b'{"model":"nobody","messages":[]}')


@dataclass(slots=True, kw_only=True)
class Load:
    """What is done to the gateway on `port`, `rate` times a second.

    `seen` counts what came of it, as `kind/status`; `keys` are replaced while it runs.
    """

    port: int
    keys_file: Path
    keys: list[str]
    rng: random.Random
    rate: float
    seen: Counter[str] = field(default_factory=Counter)
    receipts: list[tuple[str, str]] = field(default_factory=list)
    _at_work: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, stop: asyncio.Event) -> None:
        """Begin callers at random moments until `stop`; then let those under way end."""
        kinds = (
            *[self._plain] * 30, *[self._stream] * 20, *[self._leaves] * 8, *[self._slow] * 3,
            *[self._refused] * 6, *[self._broken] * 6, *[self._big] * 2, *[self._receipt] * 10,
            *[self._log] * 10, self._challenge, self._idle,
        )  # fmt: skip
        while not stop.is_set():
            task = asyncio.create_task(self._one(self.rng.choice(kinds)))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
            await pause(stop, self.rng.expovariate(self.rate))
        await asyncio.gather(*self._at_work)

    async def _one(self, kind: Callable[[], Awaitable[str]]) -> None:
        name = kind.__name__.lstrip("_")
        try:
            async with asyncio.timeout(120):
                told = await kind()
        except TimeoutError:
            told = "hangs"
        except (ConnectionError, asyncio.IncompleteReadError):
            told = "cut"
        self.seen[f"{name}/{told}"] += 1

    def _question(self, *, stream: bool, words: int) -> bytes:
        message = {"role": "user", "content": "word " * words}
        body = {"model": "stand-in-1", "messages": [message], "stream": stream}
        return json.dumps(body).encode()

    async def _ask(self, body: bytes) -> str:
        key = self.rng.choice(self.keys)
        answer = await exchange(self.port, "POST", CHAT, key, body, inline=self.rng.random() < 0.5)
        return self._told(answer, key)

    def _told(self, answer: Answer, key: str) -> str:
        if answer.receipt_id is not None:
            self.receipts[:-200] = []
            self.receipts.append((answer.receipt_id, key))
        return f"{answer.status}" if answer.whole else f"{answer.status} cut"

    async def _plain(self) -> str:
        return await self._ask(self._question(stream=False, words=self.rng.randint(1, 200)))

    async def _stream(self) -> str:
        return await self._ask(self._question(stream=True, words=self.rng.randint(1, 60)))

    async def _big(self) -> str:
        return await self._ask(self._question(stream=False, words=_BIG // 5))

    async def _refused(self) -> str:
        if self.rng.random() < 0.3:
            answer = await exchange(self.port, "POST", CHAT, "ag-unknown", b"{}")
            return str(answer.status)
        return await self._ask(self.rng.choice(_REFUSED))

    async def _broken(self) -> str:
        async with self._connection() as (reader, writer):
            writer.write(self.rng.choice(_BROKEN))
            line = await reader.readline()
        return line.split(b" ")[1].decode() if line else "closed"

    async def _leaves(self) -> str:
        """Leave in the head, in the body, before the answer, or inside the stream."""
        body = self._question(stream=True, words=200)
        head = self._head(len(body))
        when = self.rng.randrange(4)
        sent = (head[:40], head + body[:30], head + body, head + body)[when]
        async with self._connection() as (reader, writer):
            writer.write(sent)
            if when == 3:
                await reader.readuntil(b"data: ")
        return f"left {when}"

    async def _slow(self) -> str:
        """Send a body in pieces and take the answer in pieces."""
        body = self._question(stream=True, words=40)
        async with self._connection() as (reader, writer):
            for piece in (self._head(len(body)), body[:20], body[20:]):
                writer.write(piece)
                await asyncio.sleep(0.3)
            taken = b""
            while not taken.endswith(b"0\r\n\r\n") and (data := await reader.read(512)):
                taken = taken[-16:] + data
                await asyncio.sleep(0.02)
        return "whole" if taken.endswith(b"0\r\n\r\n") else "cut"

    async def _idle(self) -> str:
        """Hold a connection that asks nothing."""
        async with self._connection() as (reader, _writer):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 20)
        return "held"

    async def _receipt(self) -> str:
        if not self.receipts:
            return "none"
        jti, key = self.rng.choice(self.receipts)
        form = self.rng.choice(("format=json", "format=bundle", "wait=anchored"))
        answer = await exchange(self.port, "GET", f"/v1/receipts/{jti}?{form}", key)
        return str(answer.status)

    async def _log(self) -> str:
        path = self.rng.choice(("log/checkpoint", "log/epoch/latest", "log/tile/0/000", "models"))
        key = self.rng.choice(self.keys)
        return str((await exchange(self.port, "GET", f"/v1/{path}", key)).status)

    async def _challenge(self) -> str:
        nonce = self.rng.randbytes(32).hex()
        return str((await exchange(self.port, "GET", f"/v1/attestation?nonce={nonce}")).status)

    def _head(self, length: int) -> bytes:
        return (
            f"POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self.rng.choice(self.keys)}"
            f"\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    @contextlib.asynccontextmanager
    async def _connection(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def renew_keys(self, stop: asyncio.Event, seconds: float) -> None:
        """Replace the oldest key every so many seconds; whoever uses it then is refused."""
        while not await pause(stop, seconds):
            self.keys.append(
                add_key(self.keys_file, label="soak", grant=Grant(), now=int(time.time()))
            )
            old = self.keys.pop(0)
            revoke_key(
                self.keys_file, name=subject_of(old.encode()).base64url, now=int(time.time())
            )
            self.seen["renewed/key"] += 1


async def restart_engine(
    stop: asyncio.Event, engine: StandInEngine, port: int, every: float
) -> None:
    """End the engine with all its connections now and then and start it on the same port."""
    while not await pause(stop, every):
        await engine.close()
        await pause(stop, 0.3)
        await engine.start(port=port)


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait, but not beyond `stop`; says whether that has come."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()
