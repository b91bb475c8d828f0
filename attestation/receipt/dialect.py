"""The three dialects of inference streams: how each ends, and how each reports an error."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from attestation.encoding import jcs
from attestation.receipt.engine_json import parse_engine_object
from attestation.receipt.sse import SseEvent, parse_event


class Dialect(StrEnum):
    """OpenAI chat and completions; OpenAI responses; Anthropic messages."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"


DONE: Final = b"[DONE]"
TERMINAL_TYPES: Final = {
    Dialect.RESPONSES: frozenset({"response.completed", "response.incomplete", "response.failed"}),
    Dialect.MESSAGES: frozenset({"message_stop"}),
}
TERMINAL_HINTS: Final = {
    Dialect.CHAT: (DONE,),
    Dialect.RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed"),
    Dialect.MESSAGES: (b"message_stop",),
}
"""Byte strings of which every terminal frame holds one; most frames hold none."""


def dialect_of(path: str) -> Dialect:
    """Return the dialect of an inference route."""
    if path.startswith("/v1/responses"):
        return Dialect.RESPONSES
    if path.startswith("/v1/messages"):
        return Dialect.MESSAGES
    return Dialect.CHAT


def is_terminal(dialect: Dialect, frame: bytes) -> bool:
    """Say whether `frame` ends a stream.

    Chat: its data is `[DONE]`.  Responses and messages: its data is a JSON object, and the event
    name or the object's member `type` is one of the dialect's terminal types.
    """
    event = parse_event(frame)
    if dialect is Dialect.CHAT:
        return event.data == DONE
    document = parse_engine_object(event.data or b"")
    if document is None:
        return False
    return not TERMINAL_TYPES[dialect].isdisjoint(_types(event, document))


def error_frame(dialect: Dialect, *, code: str, message: str, sequence: int = 0) -> bytes:
    """Return the event by which the gateway itself ends a stream.

    `sequence` is the number of the event (from 0) where the dialect numbers its events.
    """
    if dialect is Dialect.RESPONSES:
        error = {"code": code, "message": message, "param": None}
        return _named_error(error | {"sequence_number": sequence, "type": "error"})
    if dialect is Dialect.MESSAGES:
        return _named_error({"error": {"message": message, "type": code}, "type": "error"})
    body = {"error": {"code": code, "message": message, "param": None, "type": code}}
    return b"data: " + jcs.canonicalize(body) + b"\n\n"


def _named_error(body: dict[str, Any]) -> bytes:
    return b"event: error\ndata: " + jcs.canonicalize(body) + b"\n\n"


def _types(event: SseEvent, document: dict[str, Any]) -> set[str]:
    names = {event.name.decode("utf-8", "replace")} if event.name is not None else set()
    kind = document.get("type")
    return names | {kind} if isinstance(kind, str) else names
