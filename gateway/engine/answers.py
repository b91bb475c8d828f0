"""What the stand-in answers: a pure function of the request, so that every run is repeatable.

The text is drawn from a fixed vocabulary by SHA-256 over the prompt and the choice's number.
A tool is called when the request demands one, or when the last user message names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.engine import tokens

DEFAULT_MAX_TOKENS = 64
MAX_CHOICES = 64
_VOCABULARY = """
signed answer every careful quiet measured record proof plain open small exact steady honest light
river stone garden bridge letter window morning market engine harbour meadow carries holds shows
keeps follows counts opens names binds explains returns and with under before after beside through
the a one this that
"""
_WORDS = tuple(_VOCABULARY.split())


class EngineError(Exception):
    """A request the engine refuses, in vLLM's terms: HTTP status, error type, parameter."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param


def bad_request(message: str, param: str | None = None) -> EngineError:
    """400 as vLLM says it."""
    return EngineError(400, "BadRequestError", message, param)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of one of the caller's functions; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One generated answer: its text in token-sized pieces, or a tool call."""

    index: int
    pieces: tuple[str, ...]
    finish: str
    tool: ToolCall | None = None

    @property
    def text(self) -> str:
        """The whole text; empty for a tool call."""
        return "".join(self.pieces)

    @property
    def token_count(self) -> int:
        """How many tokens were generated."""
        if self.tool is not None:
            return tokens.count(self.tool.name + self.tool.arguments)
        return len(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the caller offers, whatever dialect it was described in."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request reduced to what the answer depends on."""

    prompt: str
    last_user: str
    max_tokens: int
    count: int = 1
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    demanded: str | None = None  # a tool's name, or "" for any tool
    after_tool: bool = False
    json_schema: dict[str, Any] | None = None

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return max(1, tokens.count(self.prompt))


def answer(ask: Ask) -> tuple[Choice, ...]:
    """Every choice of the answer, in order of its index."""
    return tuple(_choice(ask, index) for index in range(ask.count))


def embedding(text: str, dimensions: int) -> list[float]:
    """A unit-free vector of `dimensions` numbers in [-1, 1) that depends on `text` alone."""
    draws = _draws(f"embedding\0{text}")
    return [(next(draws) - 32768) / 32768 for _ in range(dimensions)]


def _choice(ask: Ask, index: int) -> Choice:
    seed = f"{ask.prompt}\0{index}"
    tool = _tool_to_call(ask)
    if tool is not None:
        digest = hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest()
        call = ToolCall(
            id=f"chatcmpl-tool-{digest[:16]}",
            name=tool.name,
            arguments=json.dumps(_sample(tool.schema, _draws(seed))),
        )
        return Choice(index=index, pieces=(), finish="tool_calls", tool=call)
    text = _text(ask, seed)
    cut = min((at for at in (text.find(stop) for stop in ask.stop) if at >= 0), default=len(text))
    pieces = _pieces(text[:cut])
    if len(pieces) > ask.max_tokens:
        return Choice(index=index, pieces=pieces[: ask.max_tokens], finish="length")
    return Choice(index=index, pieces=pieces, finish="stop")


def _tool_to_call(ask: Ask) -> Tool | None:
    if ask.demanded is not None:
        wanted = [tool for tool in ask.tools if ask.demanded in {"", tool.name}]
        if not wanted:
            raise bad_request("The tool named in tool_choice is not in tools.", "tool_choice")
        return wanted[0]
    if ask.after_tool:
        return None
    return next((tool for tool in ask.tools if tool.name in ask.last_user), None)


def _text(ask: Ask, seed: str) -> str:
    draws = _draws(seed)
    if ask.json_schema is not None:
        return json.dumps(_sample(ask.json_schema, draws))
    words = [_WORDS[next(draws) % len(_WORDS)] for _ in range(10 + next(draws) % 12)]
    return f"Stand-in answer {next(draws):04x}: {' '.join(words)}."


def _pieces(text: str) -> tuple[str, ...]:
    size = tokens.PIECE_BYTES
    return tuple(text[at : at + size] for at in range(0, len(text), size))


def _draws(seed: str) -> Iterator[int]:
    """An endless run of 16-bit numbers from `seed`."""
    block = hashlib.sha256(seed.encode("utf-8", "replace")).digest()
    while True:
        for at in range(0, 32, 2):
            yield int.from_bytes(block[at : at + 2], "big")
        block = hashlib.sha256(block).digest()


def _sample(schema: object, draws: Iterator[int], depth: int = 0) -> Any:  # noqa: ANN401 - JSON
    """A value that fits the common part of JSON Schema (type, properties, items, enum)."""
    if not isinstance(schema, dict) or depth > 8:
        return None
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][next(draws) % len(schema["enum"])]
    kind = schema.get("type", "object" if "properties" in schema else None)
    if kind == "object":
        members = schema.get("properties") or {}
        return {name: _sample(part, draws, depth + 1) for name, part in members.items()}
    if kind == "array":
        return [_sample(schema.get("items"), draws, depth + 1)]
    draw = next(draws)
    scalars: dict[object, object] = {
        "integer": draw % 100,
        "number": draw % 100 / 2,
        "boolean": draw % 2 == 1,
        "string": _WORDS[draw % len(_WORDS)],
    }
    return scalars.get(kind)
