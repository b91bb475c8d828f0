"""Chat completions of a real vLLM through the gateway, with the unmodified OpenAI client."""

from __future__ import annotations

import http.client
import json
from typing import Any

import openai
import pytest

from attestation.receipt.claims import End, ReceiptClaims
from gateway.client.session import Session
from tests.support.serving import Served
from tests.vllm.audit import audited_one
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

PROMPT: Any = [{"role": "user", "content": "What is bound into a receipt? «§ 1»"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "look a city up",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Vienna", "Graz"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NAMED: Any = {"type": "function", "function": {"name": "lookup"}}


def asked_directly(engine: Engine, body: bytes, request_id: str) -> Any:
    """The engine's own answer to the same bytes, without the gateway."""
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=120)
    headers = {"content-type": "application/json", "x-request-id": request_id}
    try:
        connection.request("POST", "/v1/chat/completions", body=body, headers=headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def without_time(answer: Any) -> Any:
    """An answer without what differs from run to run: its second, and what the cache had."""
    answer["usage"].pop("prompt_tokens_details")
    return {name: value for name, value in answer.items() if name != "created"}


def require_complete(claims: ReceiptClaims, engine: Engine) -> None:
    version = json.loads(engine.version)["version"].partition("+")[0]
    assert claims.response.end is End.COMPLETE
    assert claims.response.status == 200
    assert claims.decision.code == "allow"
    assert (claims.model.id, claims.model.served) == (engine.model, engine.model)
    assert claims.model.engine == f"vllm/{version}"
    assert [(a.upstream, a.local, a.outcome) for a in claims.attempts] == [("cpu", False, "ok")]


def test_plain_chat_is_what_the_engine_says_and_its_id_contains_the_receipt_id(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine
) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=PROMPT, max_tokens=12, temperature=0
    )
    claims = audited_one(session, gateway)
    require_complete(claims, vllm_server)
    assert answer.id == f"chatcmpl-{claims.jti}"
    assert answer._request_id == claims.jti
    assert answer.usage is not None
    assert claims.usage is not None
    counts = (claims.usage.input, claims.usage.output, claims.usage.total)
    reported = answer.usage
    assert counts == (reported.prompt_tokens, reported.completion_tokens, reported.total_tokens)
    assert claims.response.finish_reasons == (answer.choices[0].finish_reason,)
    (call,) = session.calls
    same = asked_directly(vllm_server, call.request_body, claims.jti)
    assert without_time(json.loads(call.response_body)) == without_time(same)


async def test_async_client_gets_verified_answers_too(
    session: Session, key: str, gateway: Served, vllm_server: Engine
) -> None:
    async with openai.AsyncOpenAI(
        base_url=session.base_url, api_key=key, http_client=session.async_http_client()
    ) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=PROMPT, max_tokens=4, temperature=0
        )
    claims = audited_one(session, gateway)
    require_complete(claims, vllm_server)
    assert answer.id == f"chatcmpl-{claims.jti}"


@pytest.mark.parametrize("usage", [False, True], ids=["without-usage", "with-usage"])
def test_stream_ends_with_its_receipt_and_carries_usage_if_asked(
    client: openai.OpenAI,
    session: Session,
    gateway: Served,
    vllm_server: Engine,
    usage: bool,
) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(
        client.chat.completions.create(
            model="tiny", messages=PROMPT, max_tokens=12, temperature=0, stream=True, **options
        )
    )
    claims = audited_one(session, gateway)
    require_complete(claims, vllm_server)
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{claims.jti}"}
    # Every chunk is one event, and so is [DONE]; the block is none.
    assert claims.response.events == len(chunks) + 1
    assert claims.response.block_offset is not None
    last = chunks[-1].usage
    if usage:
        assert last is not None
        assert claims.usage is not None
        assert (claims.usage.input, claims.usage.output) == (
            last.prompt_tokens,
            last.completion_tokens,
        )
    else:
        assert last is None
        assert claims.usage is None
    (call,) = session.calls
    assert call.response_body.endswith(b"\n\ndata: [DONE]\n\n")
    assert call.response_body.count(b": receipt ") == 1


def test_stream_and_plain_answer_say_the_same(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(
        model="tiny", messages=PROMPT, max_tokens=16, temperature=0
    )
    stream = client.chat.completions.create(
        model="tiny", messages=PROMPT, max_tokens=16, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text
    assert text == plain.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_tool_calls_come_through(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine, choice: Any
) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=PROMPT,
        tools=[TOOL],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=120,
        temperature=0,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    for called in calls:
        assert called.type == "function"
        assert called.function.name == "lookup"
        assert json.loads(called.function.arguments)["city"] in {"Vienna", "Graz"}
    claims = audited_one(session, gateway)
    require_complete(claims, vllm_server)
    assert claims.response.finish_reasons == (answer.choices[0].finish_reason,)


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_tool_calls_come_through_a_stream(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine, choice: Any
) -> None:
    stream = client.chat.completions.create(
        model="tiny",
        messages=PROMPT,
        tools=[TOOL],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=120,
        temperature=0,
        stream=True,
    )
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for chunk in stream:
        for part in chunk.choices[0].delta.tool_calls or []:
            assert part.function is not None
            names[part.index] = names.get(part.index, "") + (part.function.name or "")
            text = arguments.get(part.index, "") + (part.function.arguments or "")
            arguments[part.index] = text
    assert set(names.values()) == {"lookup"}
    assert {json.loads(text)["city"] for text in arguments.values()} <= {"Vienna", "Graz"}
    require_complete(audited_one(session, gateway), vllm_server)


def test_tool_results_are_sent_back_in_a_conversation(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine
) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "lookup", "arguments": '{"city": "Graz"}'},
    }
    messages: Any = [
        *PROMPT,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    client.chat.completions.create(
        model="tiny", messages=messages, tools=[TOOL], max_tokens=4, temperature=0
    )
    require_complete(audited_one(session, gateway), vllm_server)


def test_logprobs_come_through(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine
) -> None:
    answer = client.chat.completions.create(
        model="tiny",
        messages=PROMPT,
        max_tokens=3,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 3
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content)
    require_complete(audited_one(session, gateway), vllm_server)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_two_choices_come_through(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine, stream: bool
) -> None:
    answer: Any = client.chat.completions.create(
        model="tiny", messages=PROMPT, max_tokens=6, temperature=1, seed=3, n=2, stream=stream
    )
    parts = list(answer) if stream else [answer]
    assert {choice.index for part in parts for choice in part.choices} == {0, 1}
    claims = audited_one(session, gateway)
    require_complete(claims, vllm_server)
    assert claims.response.finish_reasons == ("length",)
