"""NEAR private-ml-sdk 346ae75 and 36df76b: the signed hash was that of an answer parsed and written
again, or of one whose `[DONE]` was lost on the way.

Lesson: what is committed to is the bytes, every one of them.  A body that means the same is
another body.
"""

from __future__ import annotations

import json

import pytest

from tests.support.bundles import Gateway, failed

REQUEST = b'{"model": "tiny",  "messages":[{"role":"user","content":"\\u00e9"}], "n":1.0}'
ANSWER = b'{"id":"1", "choices":[{"message":{"content":"h\\u00e9"}}], "usage":{"x":1e0}}\n'
FRAMES = (b'data: {"choices": []}\n\n', b": keep-alive\n\n", b"data: [DONE]\n\n")

GATEWAY = Gateway()
PLAIN = GATEWAY.plain(REQUEST, ANSWER)
STREAM = GATEWAY.stream(FRAMES)


def same_meaning(body: bytes) -> list[bytes]:
    value = json.loads(body)
    return [
        json.dumps(value).encode(),
        json.dumps(value, separators=(",", ":")).encode(),
        json.dumps(value, ensure_ascii=False).encode(),
        json.dumps(value, sort_keys=True).encode(),
        body.rstrip() + b"\r\n",
        body.strip(),
        b"\xef\xbb\xbf" + body,
    ]


def test_exact_bytes_are_accepted() -> None:
    assert GATEWAY.verify().exit_code == 15


@pytest.mark.parametrize("number", range(7))
def test_request_that_means_the_same_is_another_request(number: int) -> None:
    changed = same_meaning(REQUEST)[number]
    if changed != REQUEST:
        known = {**GATEWAY.contents(), PLAIN.jti: PLAIN.contents(request=changed)}
        assert failed(GATEWAY.verify(contents=known)) == {"REQUEST-BODY"}


@pytest.mark.parametrize("number", range(7))
def test_answer_that_means_the_same_is_another_answer(number: int) -> None:
    changed = same_meaning(ANSWER)[number]
    assert changed != ANSWER
    known = {**GATEWAY.contents(), PLAIN.jti: PLAIN.contents(response=changed)}
    assert failed(GATEWAY.verify(contents=known)) == {"RESPONSE-BODY"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"data: [DONE]\n\n", b""),
        (b"data: [DONE]\n\n", b"data: [DONE]\n"),
        (b"data: [DONE]", b"data:[DONE]"),
        (b": keep-alive\n\n", b""),
        (b"\n\n", b"\r\n\r\n"),
        (b'{"choices": []}', b'{"choices":[]}'),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n\n"),
    ],
)
def test_stream_with_the_same_events_is_another_stream(old: bytes, new: bytes) -> None:
    assert old in STREAM.response
    changed = STREAM.response.replace(old, new)
    known = {**GATEWAY.contents(), STREAM.jti: STREAM.contents(response=changed)}
    assert failed(GATEWAY.verify(contents=known)) == {"RESPONSE-BODY"}
