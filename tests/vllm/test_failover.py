"""Two real engines behind one gateway: one dies, in three ways, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest

from attestation.receipt.claims import End, ReceiptClaims
from gateway.client.session import Session
from tests.support.serving import Served, serving, wait_until
from tests.vllm.audit import audited_one
from tests.vllm.clients import new_key, openai_client
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

RUNNING, GENERATED = "vllm:num_requests_running", "vllm:generation_tokens_total"
SHORT: Any = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "who answers?"}],
    "max_tokens": 4,
    "temperature": 0,
}
# Far more work than these tests wait for.
LONG: Any = SHORT | {"max_tokens": 3800, "extra_body": {"ignore_eos": True}}
# Ten seconds of work: enough to be interrupted on a busy machine, and done by the other engine.
ENOUGH = 3000
FAILURES = 3
COOLDOWN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A gateway with the engines `steady` and `brief`, and a key whose requests go to `brief`."""

    gateway: Served
    brief: Engine
    key: str

    def ask(self, **changes: Any) -> tuple[Any, ReceiptClaims]:
        """One plain request in a session of its own; the answer and its audited receipt.

        The unmodified client repeats nothing: an error would end the test.
        """
        session = self.gateway.connect()
        with openai_client(session, self.key) as client:
            answer = client.chat.completions.create(**SHORT | changes)
        return answer, audited_one(session, self.gateway)

    def answering(self) -> str:
        """Which engine answers a request of the key."""
        return self.ask()[1].attempts[-1].upstream

    def state(self) -> dict[str, str]:
        """The state of each engine, as one look at the gateway's metrics shows it."""
        seen = self.gateway.metrics()
        return {
            name: state
            for name in ("steady", "brief")
            for state in ("up", "half_open", "open")
            if seen[f'attested_engine_state{{engine="{name}",state="{state}"}}']
        }

    def ready(self) -> int:
        return httpx2.get(f"{self.gateway.url}/readyz", trust_env=False).status_code


def tries(claims: ReceiptClaims) -> list[tuple[str, str]]:
    return [(attempt.upstream, attempt.outcome) for attempt in claims.attempts]


@pytest.fixture(scope="module")
def pair(
    vllm_server: Engine, brief_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Health checks are so rare that no test meets one, but for those of an engine that was left:
    so every failure that is counted is a request's.
    """
    brief_engine.require_running()
    engines = [
        {"name": "steady", "url": vllm_server.base_url},
        {"name": "brief", "url": brief_engine.base_url},
    ]
    health = {"interval": 3600.0, "failures": FAILURES, "cooldown": COOLDOWN}
    with serving(tmp_path_factory.mktemp("pair"), engines, health=health) as served:
        key, number = served.key, 0
        # Which engine is a key's first is drawn by the key: half of them do.
        while Pair(gateway=served, brief=brief_engine, key=key).answering() != "brief":
            number += 1
            key = new_key(served, f"key {number}")
        yield Pair(gateway=served, brief=brief_engine, key=key)


def test_caller_keeps_to_its_engine_while_that_is_up(pair: Pair, vllm_server: Engine) -> None:
    before = vllm_server.metrics()[GENERATED]
    for _ in range(3):
        _, claims = pair.ask()
        assert tries(claims) == [("brief", "ok")]
    assert vllm_server.metrics()[GENERATED] == before


def test_stream_of_an_engine_that_dies_ends_with_an_error_and_the_next_request_goes_elsewhere(
    pair: Pair, vllm_server: Engine
) -> None:
    before = vllm_server.metrics()[GENERATED]
    session = pair.gateway.connect()
    with openai_client(session, pair.key) as client:
        stream = client.chat.completions.create(stream=True, **LONG)
        chunks = [next(stream) for _ in range(5)]
        assert pair.brief.metrics()[RUNNING] == 1, "five events came only when the engine was done"
        pair.brief.kill()
        with pytest.raises(openai.APIError, match="engine") as caught:
            chunks.extend(stream)
    assert not isinstance(caught.value, openai.APIConnectionError)
    broken = audited_one(session, pair.gateway)
    assert broken.response.end is End.UPSTREAM_ERROR
    assert broken.response.status == 200
    assert tries(broken) == [("brief", "incomplete")]
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{broken.jti}"}
    (call,) = session.calls
    assert b'"code":"upstream_incomplete"' in call.response_body
    assert b"[DONE]" not in call.response_body
    # A stream that has begun is begun nowhere else.
    assert vllm_server.metrics()[GENERATED] == before
    # The engine is tried a few times more before it is left alone: callers notice neither.
    for _ in range(FAILURES):
        answer, claims = pair.ask()
        assert tries(claims) == [("brief", "connect"), ("steady", "ok")]
        assert claims.response.status == 200
        assert answer.id == f"chatcmpl-{claims.jti}-2"
    _, claims = pair.ask()
    assert tries(claims) == [("steady", "ok")]
    assert pair.state() == {"steady": "up", "brief": "open"}
    assert pair.ready() == 200


def test_engine_that_comes_back_is_found_by_its_health_and_no_caller_pays_for_it(
    pair: Pair,
) -> None:
    assert pair.state()["brief"] == "open"
    pair.brief.start()
    wait_until(lambda: pair.state()["brief"] == "up")
    _, claims = pair.ask()
    assert tries(claims) == [("brief", "ok")]


def test_plain_request_of_an_engine_that_dies_is_answered_by_the_other(
    pair: Pair, vllm_server: Engine
) -> None:
    session = pair.gateway.connect()
    answer = asyncio.run(_ask_and_kill(session, pair))
    claims = audited_one(session, pair.gateway)
    assert tries(claims) == [("brief", "reset"), ("steady", "ok")]
    assert claims.response.end is End.COMPLETE
    assert answer.id == f"chatcmpl-{claims.jti}-2"
    assert answer.usage.completion_tokens == ENOUGH


async def _ask_and_kill(session: Session, pair: Pair) -> Any:
    """One plain answer, during which the engine that works on it dies."""
    async with openai.AsyncOpenAI(
        base_url=session.base_url,
        api_key=pair.key,
        http_client=session.async_http_client(),
        max_retries=0,
    ) as client:
        asked = asyncio.create_task(client.chat.completions.create(**LONG | {"max_tokens": ENOUGH}))
        while (await asyncio.to_thread(pair.brief.metrics))[RUNNING] == 0:
            assert not asked.done(), "expected the engine to be at work for longer"
        await asyncio.to_thread(pair.brief.kill)
        return await asked


def test_models_of_the_engine_that_is_left_are_listed(pair: Pair) -> None:
    session = pair.gateway.connect()
    with openai_client(session, pair.key) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
