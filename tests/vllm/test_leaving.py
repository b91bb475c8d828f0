"""Callers who leave: the engine's own metrics say that it stopped, the receipt how far it got."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from attestation.encoding.digest import Digest
from attestation.receipt.claims import End, ReceiptClaims
from attestation.receipt.signing import parse_receipt
from attestation.statement.model_lock import LockedEngine, LockedFile, ModelLock, Role
from gateway.client.call import Ended
from gateway.client.session import Session
from tests.support.logs import tokens_of
from tests.support.relay import unix_relay
from tests.support.serving import Served, serving, wait_until
from tests.vllm.audit import audited_one
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

# Sixteen answers of nearly all of the context, without an early stop: far more work than any of
# these tests waits for.
CHOICES = 16
LONG: Any = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "go on"}],
    "max_tokens": 3800,
    "temperature": 1,
    "seed": 7,
    "n": CHOICES,
    "extra_body": {"ignore_eos": True},
}
RUNNING, GENERATED = "vllm:num_requests_running", "vllm:generation_tokens_total"


@contextmanager
def engine_stops_early(engine: Engine) -> Iterator[None]:
    """The engine runs nothing before and soon nothing after, far from having done it all."""
    wait_until(lambda: engine.metrics()[RUNNING] == 0)
    before = engine.metrics()[GENERATED]
    yield
    wait_until(lambda: engine.metrics()[RUNNING] == 0, seconds=30)
    # Had it gone on, it would have more a moment later.
    done = engine.metrics()[GENERATED]
    time.sleep(0.5)
    assert engine.metrics()[GENERATED] == done
    assert 0 < done - before < CHOICES * LONG["max_tokens"]


def receipts_of(served: Served) -> list[ReceiptClaims]:
    """Every receipt in the gateway's log."""
    return [parse_receipt(token).claims for token in tokens_of(served.boot)]


def leave_stream(client: openai.OpenAI, session: Session, engine: Engine) -> tuple[str, int]:
    """Read a few chunks, see the engine work, close; gives the receipt id and the chunks read."""
    with client.chat.completions.create(stream=True, **LONG) as stream:
        chunks = [next(stream) for _ in range(5)]
        wait_until(lambda: engine.metrics()[RUNNING] > 0)
    assert session.anchor().complete
    return chunks[0].id, len(chunks)


def test_stream_that_is_left_ends_in_the_engine_and_in_its_receipt(
    client: openai.OpenAI, session: Session, key: str, gateway: Served, vllm_server: Engine
) -> None:
    with engine_stops_early(vllm_server):
        completion, read = leave_stream(client, session, vllm_server)
    claims = audited_one(session, gateway)
    (call,) = session.calls
    assert call.ended is Ended.LEFT
    assert claims.response.end is End.CLIENT_ABORT
    assert completion == f"chatcmpl-{claims.jti}"
    assert claims.response.status == 200
    assert claims.response.block_offset is None
    assert claims.response.events is not None
    assert claims.response.length is not None
    # The receipt covers what the transport took: at least what this client has read.
    assert claims.response.events >= read
    assert claims.response.length >= len(call.response_body)


async def leave_plain(session: Session, key: str, engine: Engine) -> None:
    """Ask for a whole answer, see the engine work on it, give up."""
    async with openai.AsyncOpenAI(
        base_url=session.base_url,
        api_key=key,
        http_client=session.async_http_client(),
        max_retries=0,
    ) as client:
        before = engine.metrics()[GENERATED]
        asked = asyncio.create_task(client.chat.completions.create(**LONG))
        while (await asyncio.to_thread(engine.metrics))[GENERATED] == before:
            assert not asked.done(), "expected the engine to be at work for longer"
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


def test_plain_request_that_is_left_ends_in_the_engine_and_in_its_receipt(
    session: Session, key: str, gateway: Served, vllm_server: Engine
) -> None:
    earlier = len(receipts_of(gateway))
    with engine_stops_early(vllm_server):
        asyncio.run(leave_plain(session, key, vllm_server))
    wait_until(lambda: len(receipts_of(gateway)) == earlier + 1)
    claims = receipts_of(gateway)[-1]
    assert claims.response.end is End.CLIENT_ABORT
    assert claims.response.status is None
    assert claims.response.length == 0
    assert [attempt.outcome for attempt in claims.attempts] == ["closed"]
    (call,) = session.calls
    assert call.ended is Ended.CUT
    assert claims.nonce == call.nonce


@pytest.fixture(scope="module")
def local_gateway(
    vllm_server: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A gateway that reaches the engine over a Unix socket and measured a lock for it."""
    folder: Path = tmp_path_factory.mktemp("local")
    weights = LockedFile(path="w", role=Role.WEIGHTS, sha256=Digest.of(b"w"), size=1)
    lock = ModelLock(
        model="tiny", files=(weights,), engine=LockedEngine(name="vllm", version="cpu")
    )
    (folder / "model.lock").write_bytes(lock.canonical)
    model = {"lock": str(folder / "model.lock")}
    with (
        unix_relay(folder / "engine.sock", vllm_server.host, vllm_server.port) as address,
        serving(folder, address, model=model) as served,
    ):
        yield served


def test_engine_over_a_unix_socket_counts_as_this_machines_own(
    local_gateway: Served, vllm_server: Engine
) -> None:
    served, session, key = local_gateway, local_gateway.connect(), local_gateway.key
    with openai.OpenAI(
        base_url=session.base_url, api_key=key, http_client=session.http_client(), max_retries=0
    ) as client:
        chunks = list(client.chat.completions.create(stream=True, **LONG | {"max_tokens": 5}))
    finished = [c.index for chunk in chunks for c in chunk.choices if c.finish_reason == "length"]
    assert sorted(finished) == list(range(CHOICES))
    claims = audited_one(session, served)
    assert claims.response.end is End.COMPLETE
    assert [(a.local, a.outcome) for a in claims.attempts] == [(True, "ok")]


def test_leaving_reaches_the_engine_over_a_unix_socket_too(
    local_gateway: Served, vllm_server: Engine
) -> None:
    served, session, key = local_gateway, local_gateway.connect(), local_gateway.key
    with (
        engine_stops_early(vllm_server),
        openai.OpenAI(
            base_url=session.base_url, api_key=key, http_client=session.http_client(), max_retries=0
        ) as client,
    ):
        leave_stream(client, session, vllm_server)
    assert audited_one(session, served).response.end is End.CLIENT_ABORT
