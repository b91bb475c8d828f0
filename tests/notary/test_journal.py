"""The journal's framing: what was written is read back, and nothing else is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.errors import MalformedError, UnavailableError
from gateway.notary.files import FileLayer
from gateway.notary.journal import (
    MAGIC,
    Journal,
    Kind,
    encode_record,
    log_entry,
    parse_records,
    store_file,
)

PAYLOADS = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=300)), min_size=1, max_size=5
)


def file_of(records: list[tuple[Kind, bytes]]) -> bytes:
    return MAGIC + b"".join(encode_record(kind, payload) for kind, payload in records)


@given(PAYLOADS)
def test_records_are_read_back_in_order(records: list[tuple[Kind, bytes]]) -> None:
    read = [(record.kind, record.payload) for record in parse_records(file_of(records))]
    assert read == records


@given(PAYLOADS, st.data())
def test_file_cut_anywhere_is_torn_or_a_whole_prefix(
    records: list[tuple[Kind, bytes]], data: st.DataObject
) -> None:
    whole = file_of(records)
    cut = data.draw(st.integers(min_value=len(MAGIC), max_value=len(whole) - 1))
    try:
        read = [(record.kind, record.payload) for record in parse_records(whole[:cut])]
    except MalformedError as error:
        if error.code != "journal_torn":
            raise
    else:
        assert read == records[: len(read)]
        assert len(read) < len(records)


@given(PAYLOADS, st.data())
def test_changed_bit_is_never_read_as_a_record(
    records: list[tuple[Kind, bytes]], data: st.DataObject
) -> None:
    whole = bytearray(file_of(records))
    place = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    with pytest.raises(MalformedError):
        list(parse_records(bytes(whole)))


@given(st.binary(max_size=100))
def test_only_malformed_error_leaves_the_reader(data: bytes) -> None:
    for start in (b"", MAGIC):
        try:
            list(parse_records(start + data))
        except MalformedError:
            continue


def test_unknown_kind_is_damage() -> None:
    record = bytearray(encode_record(Kind.BOOT, b"x"))
    record[4] = 7
    record[-8:] = hashlib.sha256(record[:-8]).digest()[:8]
    with pytest.raises(MalformedError) as refusal:
        list(parse_records(MAGIC + record))
    assert refusal.value.code == "journal_damaged"


def test_entry_is_the_type_byte_and_the_digest() -> None:
    digest = Digest.of(b"x")
    assert log_entry(Kind.BOOT, digest) == b"\x00" + digest.value
    assert log_entry(Kind.RECEIPT, digest) == b"\x01" + digest.value
    assert len(log_entry(Kind.RECEIPT, digest)) == 33


def test_open_journal_reads_single_records_and_refuses_damage(tmp_path: Path) -> None:
    journal = Journal.create(FileLayer(), tmp_path / "d", "j")
    offset = journal.size
    journal.append(encode_record(Kind.RECEIPT, b"one"))
    second = journal.size
    journal.append(encode_record(Kind.RECEIPT, b"two"))
    assert journal.read(offset).payload == b"one"
    assert journal.read(second).payload == b"two"
    for place in (second + 1, journal.size, journal.size + 50):
        with pytest.raises(MalformedError):
            journal.read(place)
    with journal.path.open("r+b") as file:
        file.seek(offset + 6)
        file.write(b"X")
    with pytest.raises(MalformedError):
        journal.read(offset)
    journal.close()


def test_existing_journal_is_never_opened_again(tmp_path: Path) -> None:
    Journal.create(FileLayer(), tmp_path / "d", "j").close()
    with pytest.raises(UnavailableError):
        Journal.create(FileLayer(), tmp_path / "d", "j")


def test_folder_without_a_parent_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refusal:
        Journal.create(FileLayer(), tmp_path / "no" / "d", "j")
    assert "notary.data_dir" in str(refusal.value)


class OneByteAtATime(FileLayer):
    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        return os.write(descriptor, data[:1])


def test_short_writes_are_continued(tmp_path: Path) -> None:
    journal = Journal.create(OneByteAtATime(), tmp_path / "d", "j")
    journal.append(encode_record(Kind.RECEIPT, b"payload"))
    journal.close()
    (record,) = parse_records(journal.path.read_bytes())
    assert record.payload == b"payload"


class NothingTaken(FileLayer):
    def write(self, _descriptor: int, _data: bytes | memoryview) -> int:
        return 0


def test_write_that_takes_nothing_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        store_file(NothingTaken(), tmp_path / "f", b"x")


def test_small_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(UnavailableError):
        store_file(FileLayer(), tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
