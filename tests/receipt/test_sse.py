"""Frames of an event stream do not depend on how the stream was cut into reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipt.sse import BOM, SseFramer, has_data, parse_event

LIMIT = 1 << 20

lines = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b": comment",
        b"event: x",
        b"id: 1",
        b"",
        b"x\xff\x00",
        b"\xef",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\r\r\n", b"\n\r\n"])
texts = st.lists(st.one_of(lines, ends, st.just(BOM)), max_size=24).map(b"".join)


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    return [*pieces, stream]


def frame(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[bytes], bytes | None, bool]:
    framer = SseFramer(limit)
    frames = [one for piece in pieces for one in framer.feed(piece)]
    return frames, framer.finish(), framer.oversize


@given(texts, st.lists(st.integers(0, 6), max_size=40))
def test_frames_do_not_depend_on_read_boundaries(stream: bytes, sizes: list[int]) -> None:
    assert frame(cut(stream, sizes)) == frame([stream])


@given(texts, st.lists(st.integers(0, 6), max_size=40), st.integers(3, 12))
def test_oversize_does_not_depend_on_read_boundaries(
    stream: bytes, sizes: list[int], limit: int
) -> None:
    frames, _, oversize = frame(cut(stream, sizes), limit)
    assert (frames, oversize) == (frame([stream], limit)[0], frame([stream], limit)[2])


@given(st.binary(max_size=200), st.lists(st.integers(0, 20), max_size=20))
def test_frames_and_remainder_are_the_stream(stream: bytes, sizes: list[int]) -> None:
    frames, remainder, _ = frame(cut(stream, sizes))
    assert b"".join(frames) + (remainder or b"") == stream


@pytest.mark.parametrize(
    ("stream", "frames", "remainder"),
    [
        (b"data: a\n\n", [b"data: a\n\n"], None),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"], None),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r"], b"data: b\r\r"),
        (b"data: a\n\r\nx", [b"data: a\n\r\n"], b"x"),
        (b"data: a\r\n\nx", [b"data: a\r\n\n"], b"x"),
        (b"data: a\r\r\nx", [b"data: a\r\r\n"], b"x"),
        (b"\n\ndata: a\n\n", [b"\n", b"\n", b"data: a\n\n"], None),
        (b"a\n\n\nb\n\n", [b"a\n\n", b"\n", b"b\n\n"], None),
        (BOM + b"data: a\n\n", [BOM, b"data: a\n\n"], None),
        (BOM + b"\ndata: a\n\n", [BOM, b"\n", b"data: a\n\n"], None),
        (b"data: a\n\n" + BOM + b"\n\n", [b"data: a\n\n", BOM + b"\n\n"], None),
        (b"\xef\xbb", [], b"\xef\xbb"),
        (b"data: a\r\n", [], b"data: a\r\n"),
        (b"", [], None),
    ],
)
def test_frame_ends_after_a_blank_line(
    stream: bytes, frames: list[bytes], remainder: bytes | None
) -> None:
    assert frame([stream]) == (frames, remainder, False)
    assert frame([bytes([byte]) for byte in stream]) == (frames, remainder, False)


def test_lone_cr_waits_for_the_byte_that_decides_whether_it_was_half_a_crlf() -> None:
    framer = SseFramer(LIMIT)
    assert framer.feed(b"data: a\r\r") == []
    assert framer.feed(b"\n") == [b"data: a\r\r\n"]
    assert framer.feed(b"data: b\r\r") == []
    assert framer.feed(b"d") == [b"data: b\r\r"]


def test_whole_frames_in_one_read_come_out_one_by_one() -> None:
    framer = SseFramer(LIMIT)
    framer.feed(b": hello\n\n")
    assert framer.feed(b"data: a\n\ndata: b\n\n") == [b"data: a\n\n", b"data: b\n\n"]


def test_frame_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert frame([b": x\n\n", b"data: 12\n\n"], 10)[0] == [b": x\n\n", b"data: 12\n\n"]
    assert frame([b": x\n\n", b"data: 123\n\n"], 10) == ([b": x\n\n"], b"data: 123\n\n", True)


def test_frames_before_an_oversize_one_come_out_and_nothing_after_it() -> None:
    framer = SseFramer(8)
    assert framer.feed(b"data: a\n\ndata: 123456\n\n: x\n\n") == []
    assert framer.oversize
    assert framer.feed(b": y\n\n") == []
    assert framer.finish() == b"data: a\n\ndata: 123456\n\n: x\n\n: y\n\n"


def test_endless_line_is_bounded() -> None:
    framer = SseFramer(100)
    framer.feed(b": x\n\n")
    framer.feed(b"y" * 100)
    assert not framer.oversize
    framer.feed(b"y")
    assert framer.oversize


@pytest.mark.parametrize(
    ("frame_bytes", "name", "data"),
    [
        (b"data: a\n\n", None, b"a"),
        (b"data:a\r\ndata: b\rdata:  c\n\n", None, b"a\nb\n c"),
        (b"event: x\nevent:y\ndata\n\n", b"y", b""),
        (b": data: a\n\n", None, None),
        (b"event: x\n\n", b"x", None),
        (b" data: a\n\n", None, None),
        (b"datax: a\n\n", None, None),
    ],
)
def test_fields_are_those_a_reader_sees(
    frame_bytes: bytes, name: bytes | None, data: bytes | None
) -> None:
    event = parse_event(frame_bytes)
    assert (event.name, event.data) == (name, data)
    assert has_data(frame_bytes) == (data is not None)
