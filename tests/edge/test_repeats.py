"""Heads that come again on a connection mean what a parser says they mean."""

from __future__ import annotations

import httptools
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.repeats import known_head

LIMIT = 32 * 1024
Fields = list[tuple[bytes, bytes]]


class Parsed:
    """Everything a parser says of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.fields: Fields = []
        self.body = b""
        self.messages = self.whole = 0
        httptools.HttpRequestParser(self).feed_data(data)

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1


def request(body: bytes, *lines: bytes, length: bytes | None = None) -> bytes:
    said = b"%d" % len(body) if length is None else length
    start = (b"POST /v1/chat/completions HTTP/1.1", b"Host: h", b"Content-Length: " + said)
    return b"\r\n".join((*start, *lines, b"", body))


NAMES = st.sampled_from((b"x-a", b"Accept", b"content-lengths", b"X-Content-Length", b"x-stop"))
VALUES = st.text("ab:, 0123\t", max_size=12).map(lambda text: text.strip().encode())
LINES = st.lists(st.tuples(NAMES, VALUES).map(lambda pair: b"%b: %b" % pair), max_size=4)
BODIES = st.sampled_from((b"", b"{}", b"\r\n\r\n", b"content-length: 3\r\n\r\nabc", b"x" * 120))
NOISE = st.sampled_from((b"", b"0", b"\r\n", b" ", b"X", b"POST / HTTP/1.1\r\n\r\n"))


@given(LINES, BODIES, LINES, BODIES, NOISE, st.integers(0, 80), st.booleans())
def test_what_is_known_says_of_a_request_what_the_parser_says(
    lines: list[bytes],
    first: bytes,
    others: list[bytes],
    second: bytes,
    noise: bytes,
    place: int,
    same: bool,
) -> None:
    data = request(first, *lines)
    parsed = Parsed(data)
    known = known_head(data, "/p", b"", parsed.fields, LIMIT)
    assert known is not None
    again = request(second, *(lines if same else others))
    again = again[:place] + noise + again[place:] if place % 2 else again + noise
    body = known.cut(again)
    if body is None:
        assert again != request(second, *lines)
        return
    parsed = Parsed(again)
    assert (parsed.messages, parsed.whole) == (1, 1)
    assert (parsed.fields, parsed.body) == (known.fields(), body)


def test_head_that_came_once_is_known_with_every_length() -> None:
    data = request(b"{}")
    known = known_head(data, "/p", b"", Parsed(data).fields, LIMIT)
    assert known is not None
    for size in (0, 1, 9, 10, 12345):
        assert known.cut(request(b"x" * size)) == b"x" * size
        assert (b"content-length", b"%d" % size) in known.fields()
        assert known.length == size


def test_lengths_of_another_form_are_left_to_the_parser() -> None:
    data = request(b"{}")
    known = known_head(data, "/p", b"", Parsed(data).fields, LIMIT)
    assert known is not None
    for said in (b"", b"+2", b"-2", b"2 ", b" 2", b"2,2", b"0x2", b"2" * 19, b"\xb2", b"2\r\nx: y"):
        assert known.cut(request(b"{}", length=said)) is None


def test_body_that_is_not_whole_or_not_alone_is_left_to_the_parser() -> None:
    data = request(b"{}")
    known = known_head(data, "/p", b"", Parsed(data).fields, LIMIT)
    assert known is not None
    for other in (data[:-1], data + b"x", data + data, data[:-2], data[:40], b""):
        assert known.cut(other) is None


def test_fields_of_a_request_behind_the_first_are_not_known() -> None:
    data = request(b"{}")
    other = data.replace(b"Content-Length: 2", b"x-a: 2").removesuffix(b"{}")
    assert known_head(data + other, "/p", b"", Parsed(other).fields, LIMIT) is None
    assert known_head(data + data, "/p", b"", Parsed(data).fields, LIMIT) is None


def test_head_near_its_bound_and_head_without_a_plain_length_are_not_known() -> None:
    data = request(b"{}")
    fields = Parsed(data).fields
    assert known_head(data, "/p", b"", fields, len(data)) is None
    folded = data.replace(b"Content-Length: 2", b"Content-Length: 2 ")
    assert known_head(folded, "/p", b"", fields, LIMIT) is None
    twice = data.replace(b"Host: h", b"Host: h\r\ncontent-length: 2")
    assert known_head(twice, "/p", b"", fields, LIMIT) is None
    assert known_head(data[:-1], "/p", b"", fields, LIMIT) is None


def test_large_head_is_not_known() -> None:
    for size, is_known in ((1000, True), (5000, False)):
        data = request(b"{}", b"x-large: " + b"y" * size)
        known = known_head(data, "/p", b"", Parsed(data).fields, 1 << 20)
        assert (known is not None) == is_known
