"""Sixteen agents at once on one session: nobody's answer or receipt is anybody else's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from attestation.receipt.claims import End, ReceiptClaims
from attestation.receipt.signing import parse_receipt
from gateway.client.session import Session
from tests.support.serving import Served, wait_until
from tests.vllm.audit import audited
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

AGENTS = 16


async def work(client: openai.AsyncOpenAI, name: str) -> list[str]:
    """Three calls of one agent, each declaring the one before as its parent; their ids."""
    ids: list[str] = []
    for step, stream in enumerate((False, True, False)):
        parents = {"X-Receipt-Parents": ids[-1]} if ids else {}
        said: Any = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": f"{name}, step {step}"}],
            max_tokens=8,
            temperature=0,
            stream=stream,
            extra_headers={"X-Task-Id": name, **parents},
        )
        # Read to its end: the receipt stands before the last event.
        made = {chunk.id async for chunk in said} if stream else {said.id}
        ids.extend(made)
    return ids


async def test_sixteen_agents_in_parallel(
    session: Session, key: str, gateway: Served, vllm_server: Engine
) -> None:
    async with openai.AsyncOpenAI(
        base_url=session.base_url,
        api_key=key,
        http_client=session.async_http_client(),
        max_retries=0,
    ) as client:
        names = [f"agent-{number}" for number in range(AGENTS)]
        made = await asyncio.gather(*(work(client, name) for name in names))
    claims = {one.jti: one for one in await asyncio.to_thread(audited, session, gateway)}
    assert len(claims) == 3 * AGENTS
    for name, ids in zip(names, made, strict=True):
        _require_chain([claims[id_.removeprefix("chatcmpl-")] for id_ in ids], session, name)
    positions = {one.log.index for one in claims.values()}
    assert len(positions) == len({one.log.admission for one in claims.values()}) == 3 * AGENTS
    assert {one.response.end for one in claims.values()} == {End.COMPLETE}
    assert vllm_server.metrics()["vllm:num_requests_running"] == 0


def _require_chain(chain: list[ReceiptClaims], session: Session, name: str) -> None:
    """The calls of one task follow each other, and each names the receipt before it."""
    digests = {}
    for call in session.calls:
        assert call.receipt is not None
        receipt = parse_receipt(call.receipt)
        digests[receipt.claims.jti] = receipt.digest
        if receipt.claims.jti in {one.jti for one in chain}:
            document = json.loads(call.request_body)
            assert document["messages"][0]["content"].startswith(f"{name}, step")
    before = None
    for number, one in enumerate(chain):
        assert (one.lineage.txn, one.lineage.call) == (name, number)
        assert one.lineage.previous == before
        assert [parent.digest for parent in one.lineage.parents] == ([before] if before else [])
        before = digests[one.jti]


def test_gateways_metrics_count_what_the_receipts_say(gateway: Served) -> None:
    # Leaf 0 is the boot statement; between two tests nothing runs but an epoch, perhaps.
    wait_until(lambda: receipts_and_epochs(gateway.metrics()))
    assert gateway.metrics()["attested_in_flight"] == 0


def receipts_and_epochs(samples: dict[str, float]) -> bool:
    """Whether every leaf after the first is a receipt or an epoch, by the metrics alone."""
    sealed = sum(n for name, n in samples.items() if name.startswith("attested_receipts_t"))
    quoted = samples['attested_epochs_total{result="anchored"}']
    return sealed + quoted == samples["attested_log_size"] - 1
