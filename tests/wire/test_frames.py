"""Frames of the notary's socket: whole ones come out as they went in, others end the reading."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from gateway.notary.wire.frames import (
    FROM_NOTARY,
    HEADER,
    MAX_TO_NOTARY,
    TO_NOTARY,
    VERSION,
    Frame,
    FrameReader,
    Kind,
    encode_frame,
)

FRAMES = st.builds(
    Frame,
    st.sampled_from(sorted(TO_NOTARY)),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=200),
)


def reader() -> FrameReader:
    return FrameReader(TO_NOTARY, max_payload=MAX_TO_NOTARY)


def test_the_two_directions_share_no_kind() -> None:
    assert set(Kind) == TO_NOTARY | FROM_NOTARY
    assert not TO_NOTARY & FROM_NOTARY


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 40), max_size=60))
def test_frames_come_out_whole_however_they_arrive(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode_frame(one.kind, one.request, one.payload) for one in frames)
    found: list[Frame] = []
    one = reader()
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        found.extend(one.feed(piece))
    found.extend(one.feed(data))
    assert found == frames
    assert one.pending == 0


@given(FRAMES, st.data())
def test_half_a_frame_is_nothing_yet(frame: Frame, data: st.DataObject) -> None:
    whole = encode_frame(frame.kind, frame.request, frame.payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    one = reader()
    assert list(one.feed(whole[:cut])) == []
    assert one.pending == cut
    assert list(one.feed(whole[cut:])) == [frame]


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_a_refusal(data: bytes) -> None:
    one = reader()
    try:
        found = list(one.feed(data))
    except MalformedError:
        return
    encoded = b"".join(encode_frame(frame.kind, frame.request, frame.payload) for frame in found)
    assert encoded + data[len(encoded) :] == data
    assert one.pending == len(data) - len(encoded)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ((0, VERSION + 1, Kind.SEAL, 1), "frame_version"),
        ((0, 0, Kind.SEAL, 1), "frame_version"),
        ((0, VERSION, 0, 1), "frame_kind"),
        ((0, VERSION, 255, 1), "frame_kind"),
        ((0, VERSION, Kind.SEALED, 1), "frame_kind"),
        ((MAX_TO_NOTARY + 1, VERSION, Kind.SEAL, 1), "frame_size"),
        ((2**32 - 1, VERSION, Kind.SEAL, 1), "frame_size"),
    ],
)
def test_head_that_must_not_be_read_on_is_refused_without_its_payload(
    head: tuple[int, int, int, int], code: str
) -> None:
    one = reader()
    with pytest.raises(MalformedError) as caught:
        list(one.feed(HEADER.pack(*head)))
    assert caught.value.code == code
    assert caught.value.expected
    assert caught.value.observed


def test_frames_before_a_broken_one_are_read() -> None:
    good = encode_frame(Kind.METRICS, 7, b"")
    found = reader().feed(good + struct.pack(">IBBI", 0, 9, 1, 1))
    assert next(found) == Frame(Kind.METRICS, 7, b"")
    with pytest.raises(MalformedError):
        next(found)


def test_largest_payload_is_read() -> None:
    payload = bytes(MAX_TO_NOTARY)
    (frame,) = reader().feed(encode_frame(Kind.SEAL, 1, payload))
    assert frame.payload == payload
