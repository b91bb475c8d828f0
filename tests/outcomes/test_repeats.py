"""What clients repeat: every attempt has its receipt, and each names the attempt before."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End
from attestation.receipt.signing import parse_receipt
from gateway.access.principal import subject_of
from gateway.engine.scripted import JSON, Close, Script
from gateway.engine.wire import EngineRequest
from tests.outcomes.bench import PLAIN, QUESTION, Bench
from tests.outcomes.conftest import Start

BUSY = Script(
    writes=(b'{"error":{"message":"busy","type":"server_error","param":null,"code":null}}',),
    status=503,
    content_type=JSON,
)
MUTE = Script(close=Close.MUTE)
ASK: Any = [{"role": "user", "content": "hello"}]
RETRY = "x-stainless-retry-count: 1"


class Once:
    """Plays `first` to the first request, and an answer to all others."""

    def __init__(self, first: Script) -> None:
        self._scripts = iter([first])

    def __call__(self, _request: EngineRequest) -> Script:
        return next(self._scripts, PLAIN)


def sdk(bench: Bench, **options: Any) -> Any:
    address = bench.server.address
    assert not isinstance(address, str)
    url = f"http://{address[0]}:{address[1]}/v1"
    return openai.AsyncOpenAI(base_url=url, api_key=bench.key, **options)


async def digests(bench: Bench) -> list[tuple[Digest, Digest | None]]:
    """The receipt of each request that the engine got, and which attempt that names."""
    found = []
    for request in bench.engine.requests:
        jti = request.header("x-request-id")
        assert jti is not None
        sealed = await bench.sealed(jti)
        found.append((parse_receipt(sealed.token).digest, sealed.claims.lineage.retry_of))
    return found


async def test_sdk_repeats_after_a_503_and_its_receipts_are_linked(start: Start) -> None:
    bench = await start(Once(BUSY))
    async with sdk(bench) as client:
        answer = await client.chat.completions.create(model="m", messages=ASK)
    assert answer.model == "m-served"
    (first, of_first), (_, of_second) = await digests(bench)
    assert (of_first, of_second) == (None, first)
    assert bench.engine.requests[0].body == bench.engine.requests[1].body
    assert bench.receipts == 2


async def test_sdk_repeats_after_its_own_timeout_and_its_receipts_are_linked(start: Start) -> None:
    bench = await start(MUTE)
    async with sdk(bench, timeout=2.0, max_retries=20) as client:
        asking = asyncio.create_task(client.chat.completions.create(model="m", messages=ASK))
        await asyncio.wait_for(bench.engine.left.wait(), 60)
        bench.engine.set(PLAIN)
        await asyncio.wait_for(asking, 60)
    # On a slow machine there may be more than two: each names the one before.
    made = await digests(bench)
    assert len(made) >= 2
    named = [attempt for _, attempt in made]
    assert named == [None, *(receipt for receipt, _ in made[:-1])]
    jti = bench.engine.requests[0].header("x-request-id")
    assert jti is not None
    assert (await bench.sealed(jti)).claims.response.end is End.CLIENT_ABORT


async def test_refusal_of_the_gateway_itself_is_an_attempt(start: Start) -> None:
    bench = await start(MUTE)
    key = bench.new_key(concurrency=1)
    holder = await bench.connect()
    holder.send(bench.request(key=key))
    async with asyncio.timeout(60):
        while not bench.engine.requests:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.01)
    other = QUESTION + b" "
    refused = await bench.ask(other, key=key)
    assert refused.status == 429
    holder.leave()
    await asyncio.wait_for(bench.engine.left.wait(), 60)
    bench.engine.set(PLAIN)
    again = await bench.ask(other, headers=(RETRY,))
    sub = subject_of(key.encode())
    claims = (await bench.sealed(again.jti)).claims
    assert claims.lineage.retry_of is None  # another key
    repeated = await bench.ask(other, key=key, headers=(RETRY,))
    claims = (await bench.sealed(repeated.jti, sub)).claims
    attempt = parse_receipt((await bench.sealed(refused.jti, sub)).token)
    assert claims.lineage.retry_of == attempt.digest


@pytest.mark.parametrize(
    ("headers", "linked"),
    [
        ((RETRY,), True),
        (("x-stainless-retry-count: 27",), True),
        (("idempotency-key: 7f0c-secret-of-the-application",), True),
        (("x-stainless-retry-count: 0", "idempotency-key: k"), True),
        ((), False),
        (("x-stainless-retry-count: 0",), False),
        (("x-stainless-retry-count: 01",), False),
        (("x-stainless-retry-count: -1",), False),
        (("x-stainless-retry-count: one",), False),
        (("x-stainless-retry-count: 99999",), False),
        ((RETRY, RETRY), False),
    ],
)
async def test_only_what_is_called_a_repeat_is_linked(
    start: Start, headers: tuple[str, ...], linked: bool
) -> None:
    bench = await start(Once(BUSY))
    first = await bench.ask()
    second = await bench.ask(headers=headers)
    assert (first.status, second.status) == (503, 200)
    attempt = parse_receipt(first.headers["x-receipt"]).digest
    claims = await bench.checked(second, QUESTION)
    assert claims.lineage.retry_of == (attempt if linked else None)
    assert "secret-of-the-application" not in str(claims.to_json())


async def test_repeat_with_another_byte_is_not_linked(start: Start) -> None:
    bench = await start(Once(BUSY))
    await bench.ask()
    changed = await bench.ask(QUESTION + b" ", headers=(RETRY,))
    claims = await bench.checked(changed, QUESTION + b" ")
    assert claims.lineage.parents == ()


async def test_repeat_of_a_whole_answer_is_not_linked(start: Start) -> None:
    bench = await start()
    await bench.ask()
    again = await bench.ask(headers=(RETRY,))
    assert (await bench.checked(again, QUESTION)).lineage.parents == ()


async def test_declared_parents_and_the_attempt_before_stand_side_by_side(start: Start) -> None:
    bench = await start(Once(BUSY))
    first = await bench.ask(headers=("x-receipt-parents: step-1",))
    second = await bench.ask(headers=("x-receipt-parents: step-1", RETRY))
    parents = (await bench.checked(second, QUESTION)).lineage.parents
    assert [parent.kind for parent in parents] == ["d", "r"]
    assert parents[1].digest == parse_receipt(first.headers["x-receipt"]).digest
