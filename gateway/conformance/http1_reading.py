"""A second reading of a case's bytes: llhttp as strict as it comes, without the edge's own rules.

It says how many whole messages there are before the first thing that is wrong, what each of them
carries, and which of the edge's documented stricter rules (docs/spec/http.md) one of them breaks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import httptools

from gateway.edge.limits import ConnectionLimits

_ORIGIN_FORM: Final = re.compile(rb"/(?!/)[!-~]*")
_VERSION: Final = "1.1"
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNKED: Final = re.compile(rb"chunked", re.IGNORECASE)
_VISIBLE: Final = re.compile(rb"[!-~]*")


class State(StrEnum):
    """How the bytes end, as llhttp sees it."""

    WHOLE = "whole"  # behind a message, or before the first
    IN_HEAD = "in-head"
    IN_BODY = "in-body"
    ERROR = "error"
    UPGRADE = "upgrade"


@dataclass(slots=True, kw_only=True)
class Message:
    """One message as far as it came; `fields` have lower-case names, `trailers` counts fields."""

    method: bytes = b""
    target: bytes = b""
    version: str = ""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: int = 0
    head_done: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """`messages[:whole]` came to their end before anything was wrong; at most one follows."""

    messages: tuple[Message, ...]
    whole: int
    state: State


def read_messages(data: bytes) -> Reading:
    """Read all of `data`; never raises."""
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    collector.parser = parser
    state: State | None = None
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        state = State.UPGRADE
    except httptools.HttpParserError:
        state = State.ERROR
    messages = collector.messages
    whole = sum(message.done for message in messages)
    if state is State.UPGRADE:
        # What asks for a tunnel is "complete" to llhttp, which then stops reading.
        whole = max(0, whole - 1)
    elif state is None:
        state = _state_of(messages)
    return Reading(messages=tuple(messages), whole=whole, state=state)


def _state_of(messages: list[Message]) -> State:
    if not messages or messages[-1].done:
        return State.WHOLE
    return State.IN_BODY if messages[-1].head_done else State.IN_HEAD


def broken_rule(message: Message) -> str | None:
    """Name a documented rule, stricter than llhttp's, that this message really breaks."""
    limits = ConnectionLimits()
    counts = dict.fromkeys((b"host", b"content-length", b"transfer-encoding", b"upgrade"), 0)
    for name, _ in message.fields:
        if name in counts:
            counts[name] += 1
    size = len(message.target) + sum(len(n) + len(v) + 4 for n, v in message.fields)
    rules = {
        "version": message.head_done and message.version != _VERSION,
        "target": not _ORIGIN_FORM.fullmatch(message.target) or b"#" in message.target,
        "host": message.head_done and counts[b"host"] != 1,
        "host-form": _misfits(message, b"host", _VISIBLE),
        "length": _misfits(message, b"content-length", _LENGTH),
        "coding": _misfits(message, b"transfer-encoding", _CHUNKED),
        "framing": counts[b"content-length"] + counts[b"transfer-encoding"] > 1,
        "upgrade": counts[b"upgrade"] > 0 or message.method == b"CONNECT",
        "trailers": message.trailers > 0,
        "head-size": size > limits.header_bytes or len(message.fields) > limits.header_count,
    }
    return next((name for name, broken in rules.items() if broken), None)


def _misfits(message: Message, name: bytes, form: re.Pattern[bytes]) -> bool:
    return any(key == name and not form.fullmatch(value) for key, value in message.fields)


class _Collector:
    """The parser's callbacks."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.parser: httptools.HttpRequestParser | None = None

    def on_message_begin(self) -> None:
        self.messages.append(Message())

    def on_url(self, url: bytes) -> None:
        self.messages[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        message = self.messages[-1]
        if message.head_done:
            message.trailers += 1
        else:
            message.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        message = self.messages[-1]
        message.head_done = True
        if self.parser is not None:
            message.method = self.parser.get_method()
            message.version = self.parser.get_http_version()

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].done = True
