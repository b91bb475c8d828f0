"""A request on its way to an answer: the parsed body and what the answer's envelope needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gateway.engine.answers import DEFAULT_MAX_TOKENS, Ask, Choice, bad_request

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One accepted request: the body, what it asks for, the choices and the envelope's facts."""

    id: str
    created: int  # unix seconds
    model: str
    body: Json
    ask: Ask
    choices: tuple[Choice, ...]

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk of token counts."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


def parse_body(data: bytes) -> Json:
    """The body as vLLM reads it (duplicate members: the last wins); EngineError otherwise."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise bad_request("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise bad_request("The body is not a JSON object.")
    return value


def integer(
    value: object, name: str, *, default: int = DEFAULT_MAX_TOKENS, maximum: int = 1 << 20
) -> int:
    """A positive integer member, or its default where it is absent or null."""
    if value is None:
        return default
    if type(value) is not int or not 1 <= value <= maximum:
        raise bad_request(f"{name} must be an integer from 1 to {maximum}.", name)
    return value


def text_of(content: object) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in parts if isinstance(text, str))
