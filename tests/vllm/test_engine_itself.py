"""The engine the other tests in this folder rely on is real, up, and reports on itself."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def ask(engine: Engine, text: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=120)
    body = {
        "model": engine.model,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 8,
    }
    try:
        connection.request(
            "POST",
            "/v1/chat/completions",
            body=json.dumps(body),
            headers={"content-type": "application/json"},
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_engine_is_vllm_and_serves_the_tiny_model(vllm_server: Engine) -> None:
    assert json.loads(vllm_server.version)["version"].startswith("0.")
    status, body = vllm_server.get("/v1/models")
    assert status == 200
    assert [entry["id"] for entry in json.loads(body)["data"]] == [vllm_server.model]


def test_different_prompts_get_different_answers_and_the_same_prompt_the_same(
    vllm_server: Engine,
) -> None:
    (status, first), (_, again), (_, other) = (
        ask(vllm_server, text) for text in ("alpha", "alpha", "omega")
    )
    assert status == 200, first
    texts = [answer["choices"][0]["message"]["content"] for answer in (first, again, other)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_engine_metrics_count_the_tokens_of_a_request(vllm_server: Engine) -> None:
    before = vllm_server.metrics()["vllm:generation_tokens_total"]
    _, answer = ask(vllm_server, "count me")
    after = vllm_server.metrics()["vllm:generation_tokens_total"]
    assert after - before == answer["usage"]["completion_tokens"]
