"""Requests that are right, and the same with changed bytes; equal seeds, equal inputs."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_TOKENS = (
    b"", b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b"0", b"-1", b"\xff",
    b"\r\n ", b"chunked", b"transfer-encoding: chunked\r\n", b"content-length: 0\r\n",
    b"content-length: 18446744073709551616\r\n", b"host: b\r\n", b"expect: 100-continue\r\n",
    b"connection: keep-alive\r\n", b"upgrade: h2c\r\n", b"HTTP/1.1", b"HTTP/2.0", b"GET ",
    b"POST /",
    b"http://a", b"//", b"%2e%2e/", b"?a=1", b"#", b"x-receipt: inline\r\n", b"x-receipt: \xff\r\n",
    b"x-receipt-nonce: a\r\n", b"traceparent: 00-\r\n", b"x-task-id: \x7f\r\n", b"{", b"}",
    b"[" * 70,
    b'"', b"\\u0000", b"\\ud800", b"1e999", b"NaN", b'"n":16,', b'"stream":true,', b'"model":null,',
    b'"cache_salt":"a",', b"\xef\xbb\xbf", b"ffffffff\r\n", b"0\r\n\r\n", b";a=b", b"A" * 5000,
)  # fmt: skip
_MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "héllo \U0001f600 world"}]
_BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": _MESSAGES}),
    ("/v1/completions", {"prompt": "hello", "max_tokens": 4}),
    ("/v1/responses", {"input": "hello"}),
    ("/v1/messages", {"messages": _MESSAGES, "max_tokens": 4}),
)
_HELPERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/messages/count_tokens", {"messages": _MESSAGES}),
    ("/v1/embeddings", {"input": ["a", "b"]}),
    ("/tokenize", {"prompt": "hello"}),
    ("/detokenize", {"tokens": [5, 6, 7]}),
)


def right_requests(key: str, model: str) -> list[bytes]:
    """Every inference route, plain and streamed, with lengths and in chunks, and without body."""
    found = []
    for path, members in (*_BODIES, *_HELPERS):
        for streamed in (False, True) if (path, members) in _BODIES else (False,):
            body = {"model": model, **members} | ({"stream": True} if streamed else {})
            data = json.dumps(body, ensure_ascii=False).encode()
            found += [_request(path, key, data), _chunked(path, key, data)]
        found.append(_request(path, key, b""))
    return found


def _head(path: str, key: str, framing: bytes) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1", "host: gateway.example", f"authorization: Bearer {key}",
        "content-type: application/json", "x-receipt: inline", "x-task-id: build-42",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "connection: close",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n" + framing + b"\r\n\r\n"


def _request(path: str, key: str, body: bytes) -> bytes:
    return _head(path, key, b"content-length: %d" % len(body)) + body


def _chunked(path: str, key: str, body: bytes) -> bytes:
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    return _head(path, key, b"transfer-encoding: chunked") + chunks + b"0\r\n\r\n"


def mutate(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    """Return the request with one or two changes, in its head, its body or its framing."""
    for _ in range(rng.randint(1, 2)):
        head, gap, body = data.partition(b"\r\n\r\n")
        place = rng.random()
        if place < 0.4:
            data = _change(rng, head, others) + gap + body
        elif place < 0.75:
            changed = _change(rng, body, others)
            # With its length put right the change gets past the framing.
            data = (_relengthened(head, changed) if rng.random() < 0.6 else head) + gap + changed
        elif place < 0.9:
            data = head + gap + _rechunked(rng, body)
        else:
            data = _change(rng, data, others)
    return data


def _change(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    start = rng.randint(0, len(data))
    end = min(len(data), start + rng.choice((0, 1, 1, 2, 4, 16, 64)))
    piece = data[start:end]
    operation = rng.randrange(7)
    if operation == 0 and piece:
        piece = bytes([piece[0] ^ 1 << rng.randrange(8)]) + piece[1:]
    elif operation == 1:
        piece = rng.choice(_TOKENS) + piece
    elif operation == 2:
        piece = b""
    elif operation == 3:
        piece *= rng.choice((2, 3, 50))
    elif operation == 4:
        return data[:start]
    elif operation == 5:
        other = rng.choice(others)
        return data[:start] + other[rng.randint(0, len(other)) :]
    else:
        piece = rng.randbytes(len(piece))
    return data[:start] + piece + data[end:]


def _relengthened(head: bytes, body: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(
        b"content-length: %d" % len(body) if line.startswith(b"content-length:") else line
        for line in lines
    )


def _rechunked(rng: Random, body: bytes) -> bytes:
    """The body in chunks, with a size, an extension, a line end or the last chunk wrong."""
    size = rng.choice((1, 3, len(body) or 1))
    parts = [body[at : at + size] for at in range(0, min(len(body), 400), size)]
    wrong = rng.randrange(len(parts)) if parts else 0
    out = b""
    for index, part in enumerate(parts):
        line = b"%x" % len(part)
        if index == wrong:
            line = rng.choice((line, b"-" + line, b"0x" + line, line + b';a="\x00', b"", b"f" * 17))
        ends = rng.choice((b"\r\n", b"\r\n", b"\n", b"")) if index == wrong else b"\r\n"
        out += line + ends + part + b"\r\n"
    return out + rng.choice(
        (b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"0\r\n", b"", b"00")
    )
