"""A thin HTTP/1.1 client over one connection a request: it keeps what a caller would have seen."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field

_BLOCK = re.compile(rb": receipt ([A-Za-z0-9_.-]+)\n: receipt-openings [A-Za-z0-9_-]+\n\n")
_LIMIT = 1 << 22
PATIENCE = 60.0


@dataclass(slots=True, kw_only=True)
class Answer:
    """What arrived of one response; `whole` if it ended as HTTP says it does."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def receipt_id(self) -> str | None:
        return self.headers.get("x-receipt-id")

    @property
    def token(self) -> str | None:
        """The receipt in the headers, or in the stream's block."""
        block = _BLOCK.search(self.body)
        return self.headers.get("x-receipt") or (block[1].decode() if block else None)


async def exchange(
    port: int, method: str, path: str, key: str = "", body: bytes = b"", *, inline: bool = False
) -> Answer:
    """Send one request and return what came back, however the connection ended.

    Fails with `TimeoutError` if the other side neither answers nor closes.
    """
    answer = Answer()
    async with asyncio.timeout(PATIENCE):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
        except OSError:
            return answer
        try:
            writer.write(_request(method, path, key, body, inline=inline))
            await _read(reader, answer)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # the other side was killed: what arrived before counts
        finally:
            writer.close()
    return answer


def _request(method: str, path: str, key: str, body: bytes, *, inline: bool) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if inline:
        lines.append("x-receipt: inline")
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read(reader: asyncio.StreamReader, answer: Answer) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    for line in head[1:-2]:
        name, _, value = line.partition(":")
        answer.headers[name.strip().lower()] = value.strip()
    answer.status = int(head[0].split()[1])
    if answer.headers.get("transfer-encoding") == "chunked":
        await _read_chunks(reader, answer)
    elif "content-length" in answer.headers:
        answer.body = await reader.readexactly(int(answer.headers["content-length"]))
        answer.whole = True


async def _read_chunks(reader: asyncio.StreamReader, answer: Answer) -> None:
    while True:
        length = int((await reader.readuntil(b"\r\n"))[:-2], 16)
        chunk = await reader.readexactly(length + 2)
        answer.body += chunk[:-2]
        if length == 0:
            answer.whole = True
            return


async def get_json(port: int, path: str, key: str) -> tuple[int, dict[str, object]]:
    """Return status and document of a GET; status 0 if nothing came back."""
    answer = await exchange(port, "GET", path, key)
    return answer.status, json.loads(answer.body) if answer.whole and answer.body else {}
