"""Streams in padding: sizes from a short series, and every promise of a stream kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipt.block import find_block, remove_block, render_block
from attestation.receipt.claims import End
from attestation.receipt.commitments import Openings
from attestation.receipt.delivery import StreamDelivery, body_of
from attestation.receipt.dialect import Dialect
from attestation.receipt.exchange import Exchange
from attestation.receipt.outcome import Outcome
from attestation.receipt.padding import (
    LARGEST_BUCKET,
    Shaping,
    delivery_of,
    filling,
    without_filling,
)
from attestation.receipt.sse import SseFramer, has_data, parse_event
from tests.receipt.support import CHAT_FRAME, DONE, streaming
from tests.receipt.test_sse import cut

BUCKET = 512
SERIES = {BUCKET << n for n in range(8)}


def shaped(bucket: int = BUCKET, *, batched: bool = False, inline: bool = True) -> Exchange:
    return streaming(inline=inline, shaping=Shaping(bucket=bucket, batched=batched))


def run(machine: Exchange, *pieces: bytes) -> tuple[list[bytes], Outcome]:
    """Everything that is sent, write by write, the last one without block."""
    writes = []
    for data in pieces:
        if piece := machine.engine(data):
            machine.taken(piece)
            writes.append(piece)
    machine.engine_end(clean=True)
    told = machine.finish()
    return [*writes, machine.owed + machine.terminal], told


@given(st.integers(0, 300_000), st.integers(16, LARGEST_BUCKET))
def test_filling_is_one_comment_up_to_the_next_size(length: int, bucket: int) -> None:
    made = filling(length, bucket)
    size = length + len(made)
    assert made.startswith(b": ")
    assert made.endswith(b"\n\n")
    assert set(made[2:-2]) <= set(b"p")
    assert parse_event(made).data is None
    doubled = bucket
    while doubled < LARGEST_BUCKET:
        doubled *= 2
    if size <= doubled:
        assert size in {bucket << n for n in range(17)}
        assert size == bucket or size < 2 * (length + 4)
    else:
        assert size % LARGEST_BUCKET == 0
        assert len(made) < LARGEST_BUCKET + 4


def test_every_write_has_a_size_of_the_series() -> None:
    frames = [b'data: {"x":"%b"}\n\n' % (b"y" * n) for n in (0, 1, 200, 490, 493, 494, 600, 3000)]
    writes, told = run(shaped(), *frames, DONE)
    assert {len(write) for write in writes} <= SERIES
    assert {len(write) for write in writes[:4]} == {BUCKET}
    assert told.response == body_of(b"".join(writes))
    assert told.engine == body_of(b"".join(frames) + DONE)
    assert told.mods == ("padded",)
    assert (told.end, told.events) == (End.COMPLETE, len(frames) + 1)


def test_padding_depends_on_nothing_but_the_length() -> None:
    one, other = (run(shaped(), b"data: %b\n\n" % text, DONE)[0] for text in (b"yes", b"no!"))
    assert [write.partition(b"\n\n")[2] for write in one[:1]] == [
        write.partition(b"\n\n")[2] for write in other[:1]
    ]
    assert one[1:] == other[1:]


def test_block_stays_directly_before_the_terminal_frame() -> None:
    machine = shaped()
    writes, told = run(machine, CHAT_FRAME, DONE)
    assert told.block_offset == len(b"".join(writes)) - len(DONE)
    block = render_block("a.b.c", Openings(keys={}))
    read = writes[0] + machine.owed + block + machine.terminal
    assert machine.terminal == DONE
    found = find_block(read)
    assert found is not None
    assert found.offset == told.block_offset
    assert remove_block(read, told.block_offset, block) == b"".join(writes)


def test_events_that_readers_dispatch_are_the_engines() -> None:
    writes, told = run(shaped(), CHAT_FRAME + CHAT_FRAME, b": ping\n\n", CHAT_FRAME, DONE)
    framer = SseFramer(1 << 20)
    events = [frame for frame in framer.feed(b"".join(writes)) if has_data(frame)]
    assert events == [CHAT_FRAME] * 3 + [DONE]
    assert told.events == 4


FRAMES = st.sampled_from(
    (
        CHAT_FRAME,
        b": ping\n\n",
        b"\n",
        b"\r\n",
        b"event: x\r\ndata: 1\r\n\r\n",
        b"data: caf\xc3\xa9\r\r",
        b"id: 7\n\n",
        b": px\n\n",
        b": \r\n\r\n",
        b"data: " + b"z" * 700 + b"\n\n",
    )
)


@given(
    st.lists(FRAMES, max_size=8),
    st.sampled_from((b"", b"\xef\xbb\xbf")),
    st.lists(st.integers(1, 60), max_size=12),
)
def test_without_filling_the_engines_bytes_are_left(
    frames: list[bytes], mark: bytes, sizes: list[int]
) -> None:
    sent = mark + b"".join(frames) + DONE
    writes, told = run(shaped(), *cut(sent, sizes))
    delivered = b"".join(writes)
    assert told.end is End.COMPLETE
    assert told.response == body_of(delivered)
    assert told.engine == body_of(sent)
    assert without_filling(delivered) == sent
    assert all(len(write) in SERIES for write in writes)


@given(st.binary(max_size=200))
def test_removing_filling_takes_any_bytes(body: bytes) -> None:
    kept = without_filling(body)
    assert len(kept) <= len(body)
    if b": " not in body:
        assert kept == body


def test_what_was_dropped_is_not_delivered_in_padding_either() -> None:
    writes, told = run(shaped(), CHAT_FRAME, DONE + b"data: more\n\n")
    assert told.mods == ("tail", "padded")
    assert told.end is End.UPSTREAM_ERROR
    assert told.engine == body_of(CHAT_FRAME + DONE + b"data: more\n\n")
    assert b"more" not in b"".join(writes)
    assert told.response == body_of(b"".join(writes))


def test_forged_block_ends_a_padded_stream_too() -> None:
    writes, told = run(shaped(), CHAT_FRAME + b": receipt x\n\n", CHAT_FRAME)
    assert told.mods == ("forged", "padded")
    assert without_filling(writes[0]) == CHAT_FRAME


def test_caller_that_left_took_whole_writes() -> None:
    machine = shaped()
    machine.taken(first := machine.engine(CHAT_FRAME))
    machine.engine(CHAT_FRAME)
    told = machine.finish(End.CLIENT_ABORT)
    assert told.response == body_of(first)
    assert told.engine == body_of(CHAT_FRAME * 2)
    assert told.events == 1


def test_piece_that_was_never_taken_is_owed_before_the_filling() -> None:
    machine = shaped()
    machine.engine(CHAT_FRAME)
    machine.engine(DONE)
    machine.engine_end(clean=True)
    told = machine.finish()
    assert machine.owed.startswith(CHAT_FRAME)
    assert len(machine.owed + machine.terminal) in SERIES
    assert told.response == body_of(machine.owed + machine.terminal)


def test_batched_stream_is_the_engines_byte_for_byte() -> None:
    writes, told = run(shaped(0, batched=True), CHAT_FRAME, DONE)
    assert b"".join(writes) == CHAT_FRAME + DONE
    assert (told.engine, told.mods) == (None, ("batched",))


def test_padded_and_batched_are_both_said() -> None:
    _, told = run(shaped(batched=True), CHAT_FRAME, DONE)
    assert told.mods == ("padded", "batched")


def test_unshaped_stream_costs_no_shaping() -> None:
    assert type(delivery_of(Dialect.CHAT, 100, Shaping())) is StreamDelivery


@pytest.mark.parametrize("end", [End.TIMEOUT, End.LIMIT, End.GATEWAY_FAILURE])
def test_gateways_own_end_of_a_stream_is_filled_up_as_well(end: End) -> None:
    machine = shaped()
    machine.taken(machine.engine(CHAT_FRAME))
    machine.engine_end(clean=False)
    told = machine.finish(end, error_frame=b"data: {}\n\n")
    assert len(machine.owed + machine.terminal) == BUCKET
    assert told.mods == ("padded",)
