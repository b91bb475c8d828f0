"""`/v1/responses` in vLLM's form: named events with sequence numbers, no `[DONE]`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gateway.engine.answers import Ask, Choice, Tool, bad_request
from gateway.engine.chat import usage
from gateway.engine.request import Job, Json, integer, text_of


def responses_ask(body: Json) -> Ask:
    """What a request of the Responses API asks for."""
    given = body.get("input")
    items: list[Json] = [{"role": "user", "content": given}] if isinstance(given, str) else []
    if isinstance(given, list) and all(isinstance(item, dict) for item in given):
        items = given
    if not items:
        raise bad_request("input must be a string or a list of objects.", "input")
    users = [text_of(item.get("content")) for item in items if item.get("role") == "user"]
    choice = body.get("tool_choice")
    named = choice.get("name") if isinstance(choice, dict) else None
    return Ask(
        prompt=json.dumps([body.get("instructions"), items], sort_keys=True),
        last_user=users[-1] if users else "",
        max_tokens=integer(body.get("max_output_tokens"), "max_output_tokens"),
        tools=tuple(_tools(body)),
        demanded="" if choice == "required" else named,
        after_tool=items[-1].get("type") == "function_call_output",
    )


def responses_plain(job: Job) -> Json:
    """The whole answer."""
    return _response(job, status=_status(job), output=[_item(job, done=True)], counts=True)


def responses_stream(job: Job) -> Iterator[bytes]:
    """Numbered, named events; the last is `response.completed` whatever the status inside."""
    empty = _response(job, status="in_progress", output=[], counts=False)
    item = _item(job, done=True)
    events: list[Json] = [
        {"type": "response.created", "response": empty},
        {"type": "response.in_progress", "response": empty},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _item(job, done=False),
        },
        *_content_events(job, item["id"]),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": responses_plain(job)},
    ]
    for number, value in enumerate(events):
        yield named_event({**value, "sequence_number": number})


def named_event(value: Json) -> bytes:
    """One event whose name is its `type`."""
    data = json.dumps(value, separators=(",", ":"))
    return f"event: {value['type']}\ndata: {data}\n\n".encode()


def _content_events(job: Job, item_id: str) -> Iterator[Json]:
    choice = job.choices[0]
    where: Json = {"item_id": item_id, "output_index": 0}
    if choice.tool is not None:
        arguments = choice.tool.arguments
        kind = "response.function_call_arguments"
        yield {"type": f"{kind}.delta", **where, "delta": arguments}
        yield {"type": f"{kind}.done", **where, "arguments": arguments, "name": choice.tool.name}
        return
    where = {**where, "content_index": 0}
    yield {"type": "response.content_part.added", **where, "part": _part("")}
    for piece in choice.pieces:
        yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **where, "text": choice.text, "logprobs": []}
    yield {"type": "response.content_part.done", **where, "part": _part(choice.text)}


def _response(job: Job, *, status: str, output: list[Json], counts: bool) -> Json:
    cut = status == "incomplete"
    return {
        "id": job.id,
        "object": "response",
        "created_at": job.created,
        "model": job.model,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": job.body.get("instructions"),
        "metadata": job.body.get("metadata"),
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": job.body.get("tool_choice", "auto"),
        "tools": job.body.get("tools") or [],
        "top_p": 1.0,
        "background": False,
        "max_output_tokens": job.ask.max_tokens,
        "previous_response_id": None,
        "usage": _usage(job) if counts else None,
    }


def _usage(job: Job) -> Json:
    counts = usage(job)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }


def _item(job: Job, *, done: bool) -> Json:
    choice: Choice = job.choices[0]
    status = "completed" if done else "in_progress"
    tail = job.id.removeprefix("resp_")
    if choice.tool is not None:
        return {
            "id": f"fc_{tail}",
            "type": "function_call",
            "call_id": choice.tool.id,
            "name": choice.tool.name,
            "arguments": choice.tool.arguments if done else "",
            "status": status,
        }
    return {
        "id": f"msg_{tail}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [_part(choice.text)] if done else [],
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}


def _status(job: Job) -> str:
    return "incomplete" if job.choices[0].finish == "length" else "completed"


def _tools(body: Json) -> Iterator[Tool]:
    for entry in body.get("tools") or []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise bad_request("Each tool needs a name.", "tools")
        yield Tool(name=entry["name"], schema=entry.get("parameters") or {"type": "object"})
