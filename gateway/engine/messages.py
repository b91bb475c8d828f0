"""`/v1/messages` and `/v1/messages/count_tokens` in the form vLLM gives Anthropic's API."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gateway.engine.answers import Ask, Choice, Tool, bad_request
from gateway.engine.chat import usage
from gateway.engine.request import Job, Json, integer, text_of
from gateway.engine.responses import named_event

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def messages_ask(body: Json) -> Ask:
    """What a request of the Messages API asks for."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise bad_request("messages must be a list of objects.", "messages")
    users = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    choice = body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    named = choice.get("name") if isinstance(choice, dict) and kind == "tool" else None
    return Ask(
        prompt=json.dumps([body.get("system"), messages], sort_keys=True),
        last_user=users[-1] if users else "",
        max_tokens=integer(body.get("max_tokens"), "max_tokens"),
        stop=tuple(body.get("stop_sequences") or ()),
        tools=tuple(_tools(body)),
        demanded="" if kind == "any" else named,
        after_tool=_answers_a_tool(messages),
    )


def messages_plain(job: Job) -> Json:
    """The whole answer."""
    return {
        **_envelope(job),
        "content": [_block(job.choices[0])],
        "stop_reason": _STOP_REASONS[job.choices[0].finish],
    }


def messages_stream(job: Job) -> Iterator[bytes]:
    """Anthropic's events; `message_stop` is the last."""
    choice = job.choices[0]
    start = {**_envelope(job), "content": [], "stop_reason": None}
    yield named_event({"type": "message_start", "message": start})
    yield named_event(
        {"type": "content_block_start", "index": 0, "content_block": _empty_block(choice)}
    )
    for delta in _deltas(choice):
        yield named_event({"type": "content_block_delta", "index": 0, "delta": delta})
    yield named_event({"type": "content_block_stop", "index": 0})
    yield named_event(
        {
            "type": "message_delta",
            "delta": {"stop_reason": _STOP_REASONS[choice.finish], "stop_sequence": None},
            "usage": _usage(job),
        }
    )
    yield named_event({"type": "message_stop"})


def _envelope(job: Job) -> Json:
    return {
        "id": job.id,
        "type": "message",
        "role": "assistant",
        "model": job.model,
        "stop_sequence": None,
        "usage": _usage(job),
    }


def _usage(job: Job) -> Json:
    counts = usage(job)
    return {
        "input_tokens": counts["prompt_tokens"],
        "output_tokens": counts["completion_tokens"],
    }


def _deltas(choice: Choice) -> Iterator[Json]:
    if choice.tool is not None:
        yield {"type": "input_json_delta", "partial_json": choice.tool.arguments}
    for piece in choice.pieces:
        yield {"type": "text_delta", "text": piece}


def _block(choice: Choice) -> Json:
    if choice.tool is None:
        return {"type": "text", "text": choice.text}
    return {**_empty_block(choice), "input": json.loads(choice.tool.arguments)}


def _empty_block(choice: Choice) -> Json:
    if choice.tool is None:
        return {"type": "text", "text": ""}
    return {"type": "tool_use", "id": choice.tool.id, "name": choice.tool.name, "input": {}}


def _answers_a_tool(messages: list[Json]) -> bool:
    content = messages[-1].get("content") if messages else None
    if not isinstance(content, list):
        return False
    return any(isinstance(part, dict) and part.get("type") == "tool_result" for part in content)


def _tools(body: Json) -> Iterator[Tool]:
    for entry in body.get("tools") or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise bad_request("Each tool needs a name.", "tools")
        yield Tool(name=entry["name"], schema=entry.get("input_schema") or {"type": "object"})
