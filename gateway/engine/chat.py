"""`/v1/chat/completions` and `/v1/completions` in vLLM's form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from gateway.engine import tokens
from gateway.engine.answers import MAX_CHOICES, Ask, Choice, Tool, bad_request
from gateway.engine.request import Job, Json, integer, text_of

FINGERPRINT = "stand-in-engine"


def chat_ask(body: Json) -> Ask:
    """What a chat request asks for; EngineError where vLLM would refuse it."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise bad_request("messages must be a list of objects.", "messages")
    users = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    return Ask(
        prompt=json.dumps(messages, sort_keys=True),
        last_user=users[-1] if users else "",
        max_tokens=integer(limit, "max_tokens"),
        count=integer(body.get("n"), "n", default=1, maximum=MAX_CHOICES),
        stop=stops(body),
        tools=tuple(_tools(body)),
        demanded=_demanded(body.get("tool_choice")),
        after_tool=bool(messages) and messages[-1].get("role") == "tool",
        json_schema=_json_schema(body.get("response_format")),
    )


def completion_ask(body: Json) -> Ask:
    """What a completion request asks for: one prompt, as text or token ids."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        prompt = decode_ids(prompt)
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise bad_request("Either prompt or prompt_embeds must be provided.", "prompt")
    return Ask(
        prompt=prompt,
        last_user="",
        max_tokens=integer(body.get("max_tokens"), "max_tokens", default=16),
        count=integer(body.get("n"), "n", default=1, maximum=MAX_CHOICES),
        stop=stops(body),
    )


def decode_ids(ids: list[int]) -> str:
    """The text of token ids the caller sent; EngineError for an id that does not exist."""
    try:
        return tokens.decode(ids)
    except (ValueError, OverflowError):
        raise bad_request("A token id is out of the vocabulary.", "prompt") from None


def stops(body: Json) -> tuple[str, ...]:
    """The caller's stop strings."""
    stop = body.get("stop")
    listed = [stop] if isinstance(stop, str) else stop or []
    return tuple(text for text in listed if isinstance(text, str) and text)


def chat_plain(job: Job) -> Json:
    """The whole chat answer."""
    return {
        "id": job.id,
        "object": "chat.completion",
        "created": job.created,
        "model": job.model,
        "choices": [_chat_choice(choice, job) for choice in job.choices],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": usage(job),
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "kv_transfer_params": None,
    }


def chat_stream(job: Job) -> Iterator[bytes]:
    """The chat answer as server-sent events, `data: [DONE]` last."""
    for choice in job.choices:
        yield _chat_chunk(job, choice, {"role": "assistant", "content": ""})
    for choice in job.choices:
        if choice.tool is not None:
            yield _chat_chunk(job, choice, {"tool_calls": [_tool_call(choice, delta=True)]})
        for piece in choice.pieces:
            yield _chat_chunk(job, choice, {"content": piece})
        yield _chat_chunk(job, choice, {"content": ""}, finish=choice.finish)
    if job.include_usage:
        yield event({**_chunk_head(job), "choices": [], "usage": usage(job)})
    yield b"data: [DONE]\n\n"


def completion_plain(job: Job) -> Json:
    """The whole completion answer."""
    return {
        **_completion_head(job),
        "choices": [_completion_choice(c, c.text, c.finish) for c in job.choices],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": usage(job),
        "kv_transfer_params": None,
    }


def completion_stream(job: Job) -> Iterator[bytes]:
    """The completion answer as server-sent events, `data: [DONE]` last."""
    head = _completion_head(job)
    for choice in job.choices:
        for piece in choice.pieces[:-1]:
            yield event({**head, "choices": [_completion_choice(choice, piece, None)]})
        last = choice.pieces[-1] if choice.pieces else ""
        yield event({**head, "choices": [_completion_choice(choice, last, choice.finish)]})
    if job.include_usage:
        yield event({**head, "choices": [], "usage": usage(job)})
    yield b"data: [DONE]\n\n"


def event(value: Json) -> bytes:
    """One nameless event."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def usage(job: Job) -> Json:
    """Token counts as the engine reports them."""
    produced = sum(choice.token_count for choice in job.choices)
    return {
        "prompt_tokens": job.ask.prompt_tokens,
        "total_tokens": job.ask.prompt_tokens + produced,
        "completion_tokens": produced,
        "prompt_tokens_details": None,
    }


def _chat_choice(choice: Choice, job: Job) -> Json:
    called = [_tool_call(choice, delta=False)] if choice.tool else []
    return {
        "index": choice.index,
        "message": {
            "role": "assistant",
            "content": None if called else choice.text,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": called,
            "reasoning": None,
        },
        "logprobs": _logprobs(choice.pieces) if job.body.get("logprobs") is True else None,
        "finish_reason": choice.finish,
        "stop_reason": None,
        "token_ids": None,
    }


def _chat_chunk(job: Job, choice: Choice, delta: Json, *, finish: str | None = None) -> bytes:
    wanted = job.body.get("logprobs") is True and delta.get("content")
    part = {
        "index": choice.index,
        "delta": delta,
        "logprobs": _logprobs((delta["content"],)) if wanted else None,
        "finish_reason": finish,
        "token_ids": None,
    }
    return event({**_chunk_head(job), "choices": [part]})


def _chunk_head(job: Job) -> Json:
    return {
        "id": job.id,
        "object": "chat.completion.chunk",
        "created": job.created,
        "model": job.model,
    }


def _completion_head(job: Job) -> Json:
    return {
        "id": job.id,
        "object": "text_completion",
        "created": job.created,
        "model": job.model,
    }


def _completion_choice(choice: Choice, text: str, finish: str | None) -> Json:
    return {
        "index": choice.index,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
    }


def _tool_call(choice: Choice, *, delta: bool) -> Json:
    if choice.tool is None:
        return {}
    call: Json = {
        "id": choice.tool.id,
        "type": "function",
        "function": {"name": choice.tool.name, "arguments": choice.tool.arguments},
    }
    return {**call, "index": 0} if delta else call


def _logprobs(pieces: tuple[str, ...]) -> Json:
    return {
        "content": [
            {
                "token": piece,
                "logprob": -hashlib.sha256(piece.encode()).digest()[0] / 64,
                "bytes": list(piece.encode()),
                "top_logprobs": [],
            }
            for piece in pieces
        ]
    }


def _tools(body: Json) -> Iterator[Tool]:
    for entry in body.get("tools") or []:
        function: Any = entry.get("function") if isinstance(entry, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise bad_request("Each tool needs a function with a name.", "tools")
        yield Tool(name=function["name"], schema=function.get("parameters") or {"type": "object"})


def _demanded(choice: object) -> str | None:
    if choice == "required":
        return ""
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return str(choice["function"].get("name", ""))
    return None


def _json_schema(wanted: object) -> Json | None:
    if not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    named = wanted.get("json_schema")
    return named.get("schema") if isinstance(named, dict) else None
