"""Every other route of a real vLLM through the gateway, with unmodified clients."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from attestation.receipt.claims import End
from gateway.client.session import Session
from gateway.edge.salt import SALTED
from tests.support.serving import Served, add_key, wait_until
from tests.vllm.audit import audited, audited_one
from tests.vllm.engine import Engine

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

TURN: Any = [{"role": "user", "content": "Which river runs through Vienna?"}]
JSON_TYPE = {"content-type": "application/json"}


@pytest.fixture
def claude(session: Session, key: str) -> Iterator[anthropic.Anthropic]:
    """The unmodified Anthropic client."""
    with anthropic.Anthropic(
        base_url=session.origin, api_key=key, http_client=session.http_client(), max_retries=0
    ) as made:
        yield made


def ask_engine(engine: Engine, path: str, body: bytes) -> tuple[int, str | None, bytes]:
    """Status, content type and body that the engine itself gives."""
    connection = http.client.HTTPConnection(engine.host, engine.port, timeout=120)
    try:
        connection.request("POST", path, body=body, headers=JSON_TYPE)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read()
    finally:
        connection.close()


def post(session: Session, key: str, path: str, body: bytes, **headers: str) -> Any:
    """One POST of exactly these bytes; the receipt is checked before the answer is given."""
    with session.http_client() as http:
        bearer = {"authorization": f"Bearer {key}"}
        return http.post(session.origin + path, content=body, headers=bearer | JSON_TYPE | headers)


# -- completions and responses -------------------------------------------------------------


def test_completion(client: openai.OpenAI, session: Session, gateway: Served) -> None:
    answer = client.completions.create(model="tiny", prompt="one two", max_tokens=6, temperature=0)
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert answer.id == f"cmpl-{claims.jti}"
    assert claims.response.finish_reasons == (answer.choices[0].finish_reason,)
    assert claims.request.path == "/v1/completions"


def test_completion_stream(client: openai.OpenAI, session: Session, gateway: Served) -> None:
    parts = list(
        client.completions.create(
            model="tiny", prompt="one two", max_tokens=6, temperature=0, stream=True
        )
    )
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert {part.id for part in parts} == {f"cmpl-{claims.jti}"}
    assert claims.response.events == len(parts) + 1
    assert claims.response.finish_reasons == ("length",)


def test_response(client: openai.OpenAI, session: Session, gateway: Served) -> None:
    answer = client.responses.create(
        model="tiny", input="one two", max_output_tokens=8, temperature=0, store=False
    )
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert answer.usage is not None
    assert claims.usage is not None
    assert (claims.usage.input, claims.usage.output) == (
        answer.usage.input_tokens,
        answer.usage.output_tokens,
    )
    assert answer.status in claims.response.finish_reasons


def test_response_stream(client: openai.OpenAI, session: Session, gateway: Served) -> None:
    events = list(
        client.responses.create(
            model="tiny", input="one two", max_output_tokens=8, temperature=0, stream=True
        )
    )
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert events[0].type == "response.created"
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert claims.response.events == len(events)
    (call,) = session.calls
    assert call.response_body.count(b": receipt ") == 1


# -- Anthropic's messages ------------------------------------------------------------------


def test_message(claude: anthropic.Anthropic, session: Session, gateway: Served) -> None:
    answer = claude.messages.create(model="tiny", max_tokens=8, messages=TURN)
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert claims.jti in answer.id
    assert claims.response.finish_reasons == (answer.stop_reason,)
    assert claims.usage is not None
    assert (claims.usage.input, claims.usage.output) == (
        answer.usage.input_tokens,
        answer.usage.output_tokens,
    )


def test_message_stream(claude: anthropic.Anthropic, session: Session, gateway: Served) -> None:
    with claude.messages.stream(model="tiny", max_tokens=8, messages=TURN) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    claims = audited_one(session, gateway)
    assert claims.response.end is End.COMPLETE
    assert kinds[0] == "message_start"
    assert "message_stop" in kinds
    assert claims.response.finish_reasons == (final.stop_reason,)
    (call,) = session.calls
    block = call.response_body.index(b": receipt ")
    assert b"event: message_stop" in call.response_body[block:]
    assert b"event: message_stop" not in call.response_body[:block]


def test_message_tokens_are_counted(
    claude: anthropic.Anthropic, session: Session, gateway: Served
) -> None:
    counted = claude.messages.count_tokens(model="tiny", messages=TURN)
    assert counted.input_tokens > 0
    claims = audited_one(session, gateway)
    assert claims.request.path == "/v1/messages/count_tokens"
    assert claims.response.end is End.COMPLETE


# -- tokens --------------------------------------------------------------------------------


def test_text_is_tokenized_and_comes_back(session: Session, key: str, gateway: Served) -> None:
    text = "Grüße aus Wien, 3 Tage"
    told = post(session, key, "/tokenize", json.dumps({"model": "tiny", "prompt": text}).encode())
    tokens = told.json()["tokens"]
    back = post(
        session, key, "/detokenize", json.dumps({"model": "tiny", "tokens": tokens}).encode()
    )
    assert back.json()["prompt"] == text
    assert [claims.request.path for claims in audited(session, gateway)] == [
        "/tokenize",
        "/detokenize",
    ]


# -- what the engine refuses ---------------------------------------------------------------

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
REFUSED_BY_ENGINE = {
    "unknown-model": (CHAT, {"model": "nobody", "messages": TURN}),
    "unknown-model-stream": (CHAT, {"model": "nobody", "messages": TURN, "stream": True}),
    "negative-tokens": (CHAT, {"model": "tiny", "messages": TURN, "max_tokens": -1}),
    "bad-temperature": (CHAT, {"model": "tiny", "messages": TURN, "temperature": "hot"}),
    "bad-temperature-stream": (
        CHAT,
        {"model": "tiny", "messages": TURN, "temperature": -3, "stream": True},
    ),
    "no-messages": (CHAT, {"model": "tiny"}),
    "messages-no-list": (CHAT, {"model": "tiny", "messages": 7}),
    "too-long": (CHAT, {"model": "tiny", "messages": TURN, "max_tokens": 100_000}),
    "tool-choice-without-tools": (
        CHAT,
        {"model": "tiny", "messages": TURN, "tool_choice": "required"},
    ),
    "stream-options-without-stream": (
        CHAT,
        {"model": "tiny", "messages": TURN, "stream_options": {"include_usage": True}},
    ),
    "no-embedding-model": ("/v1/embeddings", {"model": "tiny", "input": "text"}),
    "no-prompt": ("/v1/completions", {"model": "tiny", "prompt": None, "max_tokens": 1}),
    "message-unknown-model": (MESSAGES, {"model": "nobody", "messages": TURN, "max_tokens": 4}),
    "message-without-max-tokens": (MESSAGES, {"model": "tiny", "messages": TURN}),
    "response-unknown-model": ("/v1/responses", {"model": "nobody", "input": "x"}),
    "no-such-tokens": ("/detokenize", {"model": "tiny", "tokens": ["a"]}),
}


@pytest.mark.parametrize("case", REFUSED_BY_ENGINE)
def test_what_the_engine_refuses_comes_back_byte_for_byte_with_a_receipt(
    session: Session, key: str, gateway: Served, vllm_server: Engine, case: str
) -> None:
    path, document = REFUSED_BY_ENGINE[case]
    body = json.dumps(document).encode()
    # Some of what the engine says counts the members, and the gateway's salt is one more.
    same = {"cache_salt": "any"} | document if path in SALTED else document
    status, content_type, said = ask_engine(vllm_server, path, json.dumps(same).encode())
    assert status >= 400, said
    answer = post(session, key, path, body)
    assert (answer.status_code, answer.content) == (status, said)
    assert answer.headers["content-type"] == content_type
    claims = audited_one(session, gateway)
    # The engine's refusal is a complete exchange: the gateway decided to allow it.
    assert claims.response.end is End.COMPLETE
    assert claims.response.status == status
    assert claims.decision.code == "allow"


def test_sdk_raises_its_own_error_with_what_the_engine_said(
    client: openai.OpenAI, session: Session, gateway: Served, vllm_server: Engine
) -> None:
    with pytest.raises(openai.NotFoundError, match="nobody") as caught:
        client.chat.completions.create(model="nobody", messages=TURN)
    claims = audited_one(session, gateway)
    assert caught.value.request_id == claims.jti
    assert claims.model.id == "nobody"


def test_unknown_fields_reach_the_engine_and_dangerous_ones_do_not(
    client: openai.OpenAI, session: Session, gateway: Served
) -> None:
    client.chat.completions.create(
        model="tiny", messages=TURN, max_tokens=1, extra_body={"not_a_field": {"x": 1}}
    )
    with pytest.raises(openai.BadRequestError, match="session_id"):
        client.chat.completions.create(
            model="tiny", messages=TURN, max_tokens=1, extra_body={"session_id": "mine"}
        )
    allowed, refused = audited(session, gateway)
    assert allowed.decision.code == "allow"
    assert refused.response.end is End.REFUSED
    assert refused.decision.code == "refused_session_id"
    assert refused.attempts == ()


# -- models --------------------------------------------------------------------------------


def models_seen_by(session: Session, key: str) -> tuple[int, Any]:
    with session.http_client() as http:
        answer = http.get(f"{session.base_url}/models", headers={"authorization": f"Bearer {key}"})
        return answer.status_code, answer.json()


def test_models_are_the_engines_list_without_what_the_key_is_not_granted(
    session: Session, key: str, gateway: Served, vllm_server: Engine
) -> None:
    limited = add_key(gateway.folder, "--label", "limited", "--models", "another")
    status, listed = models_seen_by(session, key)
    own = json.loads(vllm_server.get("/v1/models")[1])
    assert status == 200
    assert listed.keys() == own.keys()
    # The cards carry ids and times that are new each time they are asked for.
    assert [card["id"] for card in listed["data"]] == [card["id"] for card in own["data"]]
    assert [card["id"] for card in listed["data"]] == ["tiny"]
    # A running gateway notices a new key within a second.
    wait_until(lambda: models_seen_by(session, limited)[0] == 200)
    assert models_seen_by(session, limited)[1] == listed | {"data": []}


def test_model_that_is_not_granted_does_not_exist_for_the_key(
    session: Session, gateway: Served
) -> None:
    limited = add_key(gateway.folder, "--label", "narrow", "--models", "another")
    wait_until(lambda: models_seen_by(session, limited)[0] == 200)
    body = json.dumps({"model": "tiny", "messages": TURN}).encode()
    answer = post(session, limited, CHAT, body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    claims = audited_one(session, gateway)
    assert claims.response.end is End.REFUSED
    assert claims.decision.code == "model_not_found"
    assert claims.model.id == "tiny"


def test_sdk_lists_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
