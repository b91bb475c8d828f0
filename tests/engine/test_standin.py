"""The stand-in speaks vLLM's wire format over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import tokens
from gateway.engine.standin import StandInEngine

CHAT = {"model": "stand-in-1", "messages": [{"role": "user", "content": "hello there"}]}
CALLING = [{"role": "user", "content": "use weather please"}]
WEATHER = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
            "exact": {"type": "boolean"},
            "near": {"type": "array", "items": {"type": "number"}},
        },
    },
}


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    engine = StandInEngine()
    address = await engine.start()
    async with httpx2.AsyncClient(base_url=address, trust_env=False) as http:
        yield http
    await engine.close()


def events(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def test_same_request_gets_the_same_answer_and_another_prompt_another(
    client: httpx2.AsyncClient,
) -> None:
    first = (await client.post("/v1/chat/completions", json=CHAT)).json()
    again = (await client.post("/v1/chat/completions", json=CHAT)).json()
    other = {**CHAT, "messages": [{"role": "user", "content": "hello  there"}]}
    third = (await client.post("/v1/chat/completions", json=other)).json()
    texts = [a["choices"][0]["message"]["content"] for a in (first, again, third)]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


@pytest.mark.parametrize(
    ("path", "body", "prefix"),
    [
        ("/v1/chat/completions", CHAT, "chatcmpl-"),
        ("/v1/completions", {"model": "stand-in-1", "prompt": "hello"}, "cmpl-"),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, "chatcmpl-"),
    ],
)
async def test_ids_contain_the_callers_request_id(
    client: httpx2.AsyncClient, path: str, body: dict[str, Any], prefix: str
) -> None:
    answer = await client.post(path, json=body, headers={"X-Request-Id": "abc123"})
    assert answer.json()["id"] == f"{prefix}abc123"


async def test_a_stream_carries_the_same_text_as_the_plain_answer(
    client: httpx2.AsyncClient,
) -> None:
    plain = (await client.post("/v1/chat/completions", json={**CHAT, "n": 2})).json()
    body = {**CHAT, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    stream = await client.post("/v1/chat/completions", json=body)
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.text.endswith("data: [DONE]\n\n")
    chunks = events(stream.text)
    for index in (0, 1):
        parts = [c["choices"][0] for c in chunks if c["choices"]]
        text = "".join(p["delta"].get("content") or "" for p in parts if p["index"] == index)
        assert text == plain["choices"][index]["message"]["content"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == plain["usage"]


async def test_without_include_usage_no_event_carries_usage(client: httpx2.AsyncClient) -> None:
    stream = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert not [chunk for chunk in events(stream.text) if "usage" in chunk]


async def test_max_tokens_cuts_the_answer_with_finish_reason_length(
    client: httpx2.AsyncClient,
) -> None:
    answer = (await client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 3})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


async def test_a_stop_string_cuts_the_answer(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/v1/chat/completions", json={**CHAT, "stop": "answer"})).json()
    assert answer["choices"][0]["message"]["content"] == "Stand-in "


async def test_a_tool_named_by_the_user_is_called_with_arguments_of_its_schema(
    client: httpx2.AsyncClient,
) -> None:
    body = {
        "messages": CALLING,
        "tools": [{"type": "function", "function": WEATHER}],
    }
    choice = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    call = choice["message"]["tool_calls"][0]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "weather"
    kinds = {name: type(value) for name, value in arguments.items()}
    assert kinds == {"city": str, "days": int, "unit": str, "exact": bool, "near": list}
    messages: list[Any] = [*CALLING, choice["message"], {"role": "tool", "content": "sunny"}]
    after = (await client.post("/v1/chat/completions", json={**body, "messages": messages})).json()
    assert after["choices"][0]["finish_reason"] == "stop"


async def test_json_schema_format_gives_json_of_that_shape(client: httpx2.AsyncClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": WEATHER["parameters"]}}
    body = {**CHAT, "response_format": wanted, "max_tokens": 500}
    answer = (await client.post("/v1/chat/completions", json=body)).json()
    assert set(json.loads(answer["choices"][0]["message"]["content"])) == {
        "city",
        "days",
        "unit",
        "exact",
        "near",
    }


async def test_responses_stream_ends_with_response_completed_even_when_cut(
    client: httpx2.AsyncClient,
) -> None:
    body = {"model": "stand-in-1", "input": "hello", "max_output_tokens": 2, "stream": True}
    stream = await client.post("/v1/responses", json=body)
    found = events(stream.text)
    assert found[-1]["type"] == "response.completed"
    assert found[-1]["response"]["status"] == "incomplete"
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    assert "[DONE]" not in stream.text


async def test_messages_stream_ends_with_message_stop(client: httpx2.AsyncClient) -> None:
    stream = await client.post("/v1/messages", json={**CHAT, "max_tokens": 9, "stream": True})
    assert stream.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


async def test_detokenize_gives_back_what_tokenize_took(client: httpx2.AsyncClient) -> None:
    taken = (await client.post("/tokenize", json={"prompt": "schön, 你好"})).json()
    assert taken["count"] == len(taken["tokens"])
    given_back = await client.post("/detokenize", json={"tokens": taken["tokens"]})
    assert given_back.json() == {"prompt": "schön, 你好"}


async def test_base64_embeddings_equal_the_plain_ones(client: httpx2.AsyncClient) -> None:
    body = {"model": "stand-in-1", "input": ["a", "b"]}
    plain = (await client.post("/v1/embeddings", json=body)).json()["data"]
    packed = (
        await client.post("/v1/embeddings", json={**body, "encoding_format": "base64"})
    ).json()["data"]
    assert plain[0]["embedding"] != plain[1]["embedding"]
    unpacked = struct.unpack("<32f", base64.b64decode(packed[1]["embedding"]))
    assert list(unpacked) == plain[1]["embedding"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b'{"messages":"x"}', 400),
        ("/v1/chat/completions", b'{"messages":[],"n":0}', 400),
        ("/v1/chat/completions", b'{"messages":[],"model":"other"}', 404),
        ("/v1/chat/completions", b'{"messages":[],"tool_choice":"required"}', 400),
        ("/v1/completions", b"{}", 400),
        ("/v1/completions", b'{"prompt":[5]}', 400),
        ("/v1/responses", b'{"input":7}', 400),
        ("/v1/embeddings", b'{"input":[]}', 400),
        ("/detokenize", b'{"tokens":[-1]}', 400),
    ],
)
async def test_errors_have_vllms_form_with_an_integer_code(
    client: httpx2.AsyncClient, path: str, body: bytes, status: int
) -> None:
    answer = await client.post(path, content=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.json()["error"]["code"] == status


async def test_messages_errors_have_anthropics_envelope(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/messages", content=b'{"messages":[],"model":"other"}')
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"


async def test_unknown_paths_and_methods_get_a_detail(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json() == {"detail": "Not Found"}
    assert (await client.post("/nowhere")).status_code == 404
    assert (await client.get("/v1/completions")).status_code == 405
    assert (await client.delete("/v1/completions")).status_code == 405


async def test_models_version_and_health_are_served_over_a_unix_socket(tmp_path: Path) -> None:
    engine = StandInEngine(models=("one", "two"))
    await engine.start(uds=str(tmp_path / "engine.sock"))
    transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "engine.sock"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as http:
        cards = (await http.get("/v1/models")).json()["data"]
        assert [card["id"] for card in cards] == ["one", "two"]
        assert (await http.get("/health")).content == b""
        assert "version" in (await http.get("/version")).json()
    await engine.close()


async def test_what_is_not_http_gets_400_and_the_connection_closed() -> None:
    engine = StandInEngine()
    address = await engine.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(b"nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await engine.close()


@given(st.text(st.characters(codec="utf-8")))
def test_every_text_survives_its_tokens(text: str) -> None:
    assert tokens.decode(tokens.encode(text)) == text


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_number_is_a_token_or_refused(number: int) -> None:
    try:
        piece = tokens.decode([number])
    except ValueError:
        return
    assert len(piece) <= tokens.PIECE_BYTES
