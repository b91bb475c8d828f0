"""What goes over the wire: the requests of the load, and the answers of the fake engine.

Everything the engine has to know stands in members of a chat request that any proxy passes on, in
whichever order it writes them: `max_tokens` is the number of events, `seed` the milliseconds
between two of them.  Answers have the members, the sizes and the framing of vLLM's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PATH: Final = "/v1/chat/completions"
MODEL: Final = "bench-7b"
KILOBYTE: Final = 1024
HOLD: Final = 3_600_000
"""Milliseconds between two events of a stream that is to stay idle."""
STAMP: Final = b"@t="
"""In the text of every event once, however a proxy may write the event anew; a time follows."""
STAMP_DIGITS: Final = 16
_STREAM: Final = re.compile(rb'"stream":\s*true')
_EVENTS: Final = re.compile(rb'"max_(?:completion_)?tokens":\s*(\d+)')
_DELAY: Final = re.compile(rb'"seed":\s*(\d+)')
_PREFIX: Final = (
    b'data: {"id":"chatcmpl-8f3c5a1be2d94c07a6b1d2e3f4a5b6c7","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"' + MODEL.encode() + b'","choices":[{"index":0,"delta":'
)
_FIRST: Final = b'{"role":"assistant","content":"' + STAMP
_NEXT: Final = b'{"content":"' + STAMP
_RUNNING: Final = b'"},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
_LAST: Final = b'"},"logprobs":null,"finish_reason":"stop","token_ids":null}]}\n\n'
DONE: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for; `delay` is in seconds, `events` 0 for a plain answer."""

    events: int
    delay: float


def asked_by(body: bytes) -> Asked:
    """Return what a request's body asks for."""
    if not _STREAM.search(body):
        return Asked(events=0, delay=0.0)
    events, delay = _EVENTS.search(body), _DELAY.search(body)
    return Asked(
        events=max(1, int(events[1])) if events else 1,
        delay=int(delay[1]) / 1000 if delay else 0.0,
    )


def request_body(*, size: int = KILOBYTE, events: int = 0, delay_ms: int = 0) -> bytes:
    """Return a chat request of `size` bytes; for a stream of `events` events if there are any."""
    head = b'{"model":"%s","messages":[{"role":"user","content":"' % MODEL.encode()
    tail = b'"}],"temperature":0.7'
    if events:
        tail += b',"stream":true,"max_tokens":%d,"seed":%d' % (events, delay_ms)
    tail += b"}"
    return head + b"benchmark " * (max(0, size - len(head) - len(tail)) // 10) + tail


def plain_answer(received: int, size: int = KILOBYTE) -> bytes:
    """Return a whole answer that says in `prompt_tokens` how many bytes the engine received."""
    head = (
        b'{"id":"chatcmpl-8f3c5a1be2d94c07a6b1d2e3f4a5b6c7","object":"chat.completion",'
        b'"created":1790000000,"model":"%s","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"' % MODEL.encode()
    )
    tail = (
        b'"},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
        b'"total_tokens":%d,"completion_tokens":180}}' % (received, received + 180)
    )
    return head + b"tokens of it " * (max(0, size - len(head) - len(tail)) // 13) + tail


def event(number: int, count: int, nanoseconds: int) -> bytes:
    """Return one event, which carries the moment it was made (CLOCK_MONOTONIC)."""
    return b"".join(
        (
            _PREFIX,
            _NEXT if number else _FIRST,
            b"%016d" % nanoseconds,
            _RUNNING if number + 1 < count else _LAST,
        )
    )
