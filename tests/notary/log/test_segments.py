"""Segments: what was written is read back, and nothing else is, whatever happens to the file."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from gateway.notary.log.segments import (
    MAGIC,
    MAX_PAYLOAD_BYTES,
    Header,
    Kind,
    SegmentError,
    encode_batch,
    encode_record,
    is_leaf,
    iter_records,
    parse_batch,
    parse_header,
    parse_segment,
    read_record,
)

HEADER = Header(bootseed=bytes(range(32)), number=0, first_leaf=0, before=bytes(32))
LEAVES = st.tuples(
    st.sampled_from([Kind.BOOT, Kind.RECEIPT, Kind.EPOCH, Kind.CHECKPOINT]),
    st.binary(max_size=200),
)
BATCHES = st.lists(st.lists(LEAVES, min_size=1, max_size=4), min_size=1, max_size=4)
Batches = list[list[tuple[Kind, bytes]]]


def segment_of(batches: Batches) -> bytes:
    parts = [MAGIC, HEADER.encode()]
    for number, batch in enumerate(batches):
        parts.append(encode_batch(number))
        parts += [encode_record(kind, payload) for kind, payload in batch]
    return b"".join(parts)


def readable(data: bytes) -> tuple[list[tuple[Kind, bytes]], SegmentError | None]:
    """What a file gives up to its first fault, header and batch marks apart."""
    found: list[tuple[Kind, bytes]] = []
    try:
        for record in iter_records(lambda length, offset: data[offset : offset + length]):
            if record.kind not in (Kind.HEADER, Kind.BATCH):
                found.append((record.kind, record.payload))  # noqa: PERF401 - up to the fault
    except SegmentError as error:
        return found, error
    return found, None


def flat(batches: Batches) -> list[tuple[Kind, bytes]]:
    return [record for batch in batches for record in batch]


SMALL: Batches = [
    [(Kind.BOOT, b'{"boot":1}')],
    [(Kind.CHECKPOINT, b"note")],
    [(Kind.RECEIPT, b"first receipt"), (Kind.RECEIPT, b"second")],
    [(Kind.EPOCH, b"{}")],
]


@given(BATCHES)
def test_records_are_read_back_in_order(batches: Batches) -> None:
    assert readable(segment_of(batches)) == (flat(batches), None)


@given(BATCHES, st.integers(min_value=1, max_value=40))
def test_short_reads_are_continued(batches: Batches, most: int) -> None:
    data = segment_of(batches)
    read = iter_records(lambda length, offset: data[offset : offset + min(most, length)])
    assert [r.payload for r in read if r.kind not in (Kind.HEADER, Kind.BATCH)] == [
        payload for _, payload in flat(batches)
    ]


@given(BATCHES, st.data())
def test_file_cut_anywhere_is_torn_or_a_whole_prefix(batches: Batches, data: st.DataObject) -> None:
    whole = segment_of(batches)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    found, error = readable(whole[:cut])
    assert found == flat(batches)[: len(found)]
    assert error is None or (error.torn and not error.followed)


def test_file_cut_at_every_byte_of_its_last_record_is_torn() -> None:
    whole = segment_of(SMALL)
    last = len(encode_record(*SMALL[-1][-1]))
    for cut in range(len(whole) - last + 1, len(whole)):
        found, error = readable(whole[:cut])
        assert found == flat(SMALL)[:-1]
        assert error is not None
        assert (error.code, error.offset) == ("segment_torn", len(whole) - last)


def test_every_changed_bit_is_told_and_never_read_as_something_else() -> None:
    whole = segment_of(SMALL)
    last_batch = len(segment_of(SMALL[:-1]))
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            found, error = readable(bytes(changed))
            assert error is not None, f"bit {bit} of byte {place}"
            assert error.offset <= place
            assert found == flat(SMALL)[: len(found)]
            # Only in the last batch can it be a write that the power cut short.
            if place < last_batch:
                assert (error.code, error.followed) == ("segment_damaged", True)
            else:
                assert not error.followed


@given(BATCHES, st.data())
def test_bytes_in_front_of_a_later_batch_are_damage_and_no_tear(
    batches: Batches, data: st.DataObject
) -> None:
    whole = segment_of([*batches, [(Kind.RECEIPT, b"later")]])
    end = len(segment_of(batches))
    start = data.draw(st.integers(min_value=0, max_value=end - 1))
    stop = data.draw(st.integers(min_value=start + 1, max_value=end))
    changed = whole[:start] + bytes(stop - start) + whole[stop:]
    if changed != whole:
        _, error = readable(changed)
        assert error is not None
        assert (error.code, error.followed) == ("segment_damaged", True)


def test_mark_of_a_later_batch_is_found_inside_what_looks_like_one() -> None:
    begun = encode_batch(9)[:5]
    _, error = readable(segment_of(SMALL) + b"?" + begun + encode_batch(9) + b"?")
    assert error is not None
    assert (error.code, error.followed) == ("segment_damaged", True)


@pytest.mark.parametrize("shift", [-22, -21, -20, -10, -1, 0, 1])
def test_mark_of_a_later_batch_is_found_wherever_the_reading_is_cut(shift: int) -> None:
    whole = segment_of(SMALL)
    rest = bytes([255]) * ((1 << 20) + 1 + shift) + encode_batch(9)
    _, error = readable(whole + rest)
    assert error is not None
    assert (error.code, error.followed) == ("segment_damaged", True)


def test_fault_is_found_in_memory_that_does_not_grow(tmp_path: Path) -> None:
    """A file with a hole costs its author nothing, and its reader no more than a few MiB."""
    file = tmp_path / "000000.seg"
    file.write_bytes(segment_of(SMALL))
    os.truncate(file, 48 << 20)
    tracemalloc.start()
    try:
        with file.open("rb") as opened, pytest.raises(SegmentError) as refusal:
            list(iter_records(lambda length, offset: os.pread(opened.fileno(), length, offset)))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert not refusal.value.followed


@given(BATCHES, st.binary(min_size=1, max_size=100))
def test_what_is_added_at_the_end_is_told(batches: Batches, more: bytes) -> None:
    found, error = readable(segment_of(batches) + more)
    assert found == flat(batches)
    assert error is not None


@given(st.binary(max_size=200))
def test_only_malformed_error_leaves_the_parser(data: bytes) -> None:
    for start in (b"", MAGIC, MAGIC + HEADER.encode(), segment_of(SMALL)):
        try:
            parse_segment(start + data)
        except MalformedError:
            continue


@pytest.mark.parametrize("data", [b"", MAGIC[:5], MAGIC, MAGIC + HEADER.encode()[:9]])
def test_segment_that_was_never_begun_is_torn(data: bytes) -> None:
    with pytest.raises(SegmentError) as refusal:
        parse_segment(data)
    assert refusal.value.torn


def test_other_file_is_no_segment() -> None:
    with pytest.raises(SegmentError) as refusal:
        parse_segment(b"attested-gateway/journal/1\n" + encode_record(Kind.BOOT, b"x"))
    assert (refusal.value.code, refusal.value.offset) == ("segment_damaged", 0)


def test_segment_without_a_header_is_refused() -> None:
    with pytest.raises(MalformedError) as refusal:
        parse_segment(MAGIC + encode_record(Kind.BOOT, b"x"))
    assert refusal.value.code == "segment_header"


def test_unknown_kind_is_damage() -> None:
    for kind in (3, 0x7F, 0xFF):
        with pytest.raises(SegmentError) as refusal:
            parse_segment(MAGIC + HEADER.encode() + encode_record(kind, b"x"))
        assert refusal.value.code == "segment_damaged"


def test_impossible_length_is_damage_and_is_not_read() -> None:
    huge = (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big") + b"\x01"
    data = MAGIC + HEADER.encode() + huge + bytes(40)
    with pytest.raises(SegmentError) as refusal:
        parse_segment(data)
    assert refusal.value.code == "segment_damaged"
    with pytest.raises(MalformedError):
        read_record(lambda length, offset: data[offset : offset + length], len(data) - 45)


def test_largest_record_is_read_back() -> None:
    batches = [[(Kind.EPOCH, b"x" * MAX_PAYLOAD_BYTES), (Kind.RECEIPT, b"y")]]
    assert readable(segment_of(batches)) == (flat(batches), None)


def test_records_can_be_read_from_the_middle() -> None:
    data = segment_of(SMALL)
    records = parse_segment(data)
    read = lambda length, offset: data[offset : offset + length]  # noqa: E731
    for place, record in enumerate(records):
        assert list(iter_records(read, record.offset)) == records[place:]
        assert read_record(read, record.offset) == record


def test_place_between_records_is_refused() -> None:
    data = segment_of(SMALL)
    starts = {record.offset for record in parse_segment(data)}
    read = lambda length, offset: data[offset : offset + length]  # noqa: E731
    for offset in set(range(len(data) + 20)) - starts:
        with pytest.raises(MalformedError):
            read_record(read, offset)


def test_header_says_boot_number_and_place() -> None:
    header = Header(bootseed=b"s" * 32, number=7, first_leaf=1 << 40, before=b"b" * 32)
    (record,) = parse_segment(MAGIC + header.encode())
    assert parse_header(record) == header


@pytest.mark.parametrize("parse", [parse_header, parse_batch])
def test_other_record_is_neither_header_nor_batch(parse: object) -> None:
    record = parse_segment(segment_of(SMALL))[2]
    with pytest.raises(MalformedError):
        parse(record)  # type: ignore[operator]


def test_only_leaf_kinds_count_as_leaves() -> None:
    leaves = {kind for kind in Kind if is_leaf(encode_record(kind, b""))}
    assert leaves == {Kind.BOOT, Kind.RECEIPT, Kind.EPOCH}


def test_check_covers_length_kind_and_payload() -> None:
    frame = encode_record(Kind.RECEIPT, b"payload")
    assert frame == b"\x00\x00\x00\x07\x01payload" + hashlib.sha256(frame[:-8]).digest()[:8]
