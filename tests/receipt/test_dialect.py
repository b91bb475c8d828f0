"""Routes, dialects and the gateway's own error events."""

from __future__ import annotations

import json

import pytest

from attestation.receipt.claims import Usage
from attestation.receipt.dialect import Dialect, dialect_of, error_frame
from attestation.receipt.plain import MAX_BYTES, facts_of_answer
from attestation.receipt.sse import SseFramer, parse_event


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", Dialect.CHAT),
        ("/v1/completions", Dialect.CHAT),
        ("/v1/embeddings", Dialect.CHAT),
        ("/tokenize", Dialect.CHAT),
        ("/v1/responses", Dialect.RESPONSES),
        ("/v1/messages", Dialect.MESSAGES),
        ("/v1/messages/count_tokens", Dialect.MESSAGES),
    ],
)
def test_dialect_follows_from_the_route(path: str, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


@pytest.mark.parametrize("dialect", list(Dialect))
def test_error_event_is_one_frame_that_names_code_and_message(dialect: Dialect) -> None:
    frame = error_frame(dialect, code="timeout", message="too slow", sequence=4)
    framer = SseFramer(1000)
    assert framer.feed(frame) == [frame]
    event = parse_event(frame)
    document = json.loads(event.data or b"")
    if dialect is Dialect.CHAT:
        assert event.name is None
        assert (document["error"]["code"], document["error"]["message"]) == ("timeout", "too slow")
    elif dialect is Dialect.RESPONSES:
        assert (event.name, document["type"], document["code"]) == (b"error", "error", "timeout")
        assert document["sequence_number"] == 4
    else:
        assert (event.name, document["type"]) == (b"error", "error")
        assert document["error"] == {"message": "too slow", "type": "timeout"}


def test_facts_of_a_plain_chat_answer() -> None:
    answer = {
        "model": "tiny",
        "choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    facts = facts_of_answer(Dialect.CHAT, json.dumps(answer).encode())
    assert facts.served == "tiny"
    assert facts.finish_reasons == ("stop", "length")
    assert facts.usage == Usage(input=1, output=2, total=3)


def test_facts_of_a_plain_response() -> None:
    answer = {"object": "response", "status": "completed", "model": "tiny", "error": None}
    facts = facts_of_answer(Dialect.RESPONSES, json.dumps(answer).encode())
    assert (facts.served, facts.finish_reasons) == ("tiny", ("completed",))


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_final_status_of_a_response_is_its_finish_reason(status: str) -> None:
    answer = {"object": "response", "status": status}
    facts = facts_of_answer(Dialect.RESPONSES, json.dumps(answer).encode())
    assert facts.finish_reasons == (status,)


@pytest.mark.parametrize("status", ["in_progress", "queued", None, ["completed"]])
def test_other_status_of_a_response_is_no_finish_reason(status: object) -> None:
    answer = {"object": "response", "status": status}
    facts = facts_of_answer(Dialect.RESPONSES, json.dumps(answer).encode())
    assert facts.finish_reasons == ()


def test_dialects_have_names_to_show() -> None:
    assert [str(dialect) for dialect in Dialect] == ["chat", "responses", "messages"]


def test_token_count_of_zero_is_a_count() -> None:
    facts = facts_of_answer(Dialect.CHAT, b'{"usage":{"prompt_tokens":4,"completion_tokens":0}}')
    assert facts.usage == Usage(input=4, output=0)


def test_status_of_something_else_than_a_response_is_no_finish_reason() -> None:
    answer = {"object": "job", "status": "completed"}
    facts = facts_of_answer(Dialect.RESPONSES, json.dumps(answer).encode())
    assert facts.finish_reasons == ()


def test_facts_of_a_plain_message() -> None:
    answer = {"type": "message", "model": "tiny", "stop_reason": "end_turn"}
    facts = facts_of_answer(Dialect.MESSAGES, json.dumps(answer).encode())
    assert (facts.served, facts.finish_reasons) == ("tiny", ("end_turn",))


def test_plain_error_answer_is_an_error() -> None:
    assert facts_of_answer(Dialect.CHAT, b'{"error":{"code":400}}').finish_reasons == ("error",)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"model":"a","model":"b"}', b"\xff"])
def test_answer_that_is_no_plain_object_gives_no_facts(body: bytes) -> None:
    facts = facts_of_answer(Dialect.CHAT, body)
    assert (facts.served, facts.usage, facts.finish_reasons) == (None, None, ())


def test_huge_answer_gives_no_facts() -> None:
    body = b'{"model":"tiny","x":"' + b"x" * MAX_BYTES + b'"}'
    assert facts_of_answer(Dialect.CHAT, body).served is None
