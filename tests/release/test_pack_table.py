"""The partition table of packs: one form, found by the root hash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError
from attestation.measure.gpt import gpt_event
from attestation.release.gpt import HEAD_BYTES, PackLayout, parse_head
from attestation.release.verity import BLOCK_BYTES
from tests.refusals import refusal
from tests.release.builders import blocks, pack_file

ROOT = bytes(range(32))
LAYOUT = PackLayout(root=ROOT, data_bytes=5 * BLOCK_BYTES, verity_bytes=2 * BLOCK_BYTES)


def test_partitions_are_named_by_the_halves_of_the_root_hash() -> None:
    assert str(LAYOUT.data_partuuid) == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert str(LAYOUT.verity_partuuid) == "10111213-1415-1617-1819-1a1b1c1d1e1f"
    # Mixed-endian on the disk, as every tool reads it.
    assert LAYOUT.data_partuuid.bytes_le in LAYOUT.head()


def test_partitions_are_called_data_and_verity() -> None:
    names = [LAYOUT.head()[at + 56 : at + 128].decode("utf-16-le") for at in (1024, 1152)]
    assert [name.rstrip("\0") for name in names] == ["data", "verity"]


@pytest.mark.parametrize("size", [1 << 40, (1 << 32) * 512, 3 << 40])
def test_protective_record_covers_what_32_bits_can_say(size: int) -> None:
    layout = PackLayout(root=ROOT, data_bytes=size, verity_bytes=BLOCK_BYTES)
    told = int.from_bytes(layout.head()[458:462], "little")
    assert told == min(layout.size // 512 - 1, 0xFFFFFFFF)
    assert parse_head(layout.head()) == layout


def test_pack_of_four_exbibytes_is_refused() -> None:
    refusal(parse_head, PackLayout(root=ROOT, data_bytes=1 << 62, verity_bytes=512).head())


def test_partitions_lie_on_whole_mebibytes() -> None:
    assert (LAYOUT.data_start, LAYOUT.verity_start, LAYOUT.size) == (1 << 20, 2 << 20, 4 << 20)


@pytest.mark.parametrize("sectors", [1, 8, 3000])
def test_table_reads_back_as_it_was(sectors: int) -> None:
    layout = PackLayout(root=ROOT, data_bytes=512 * sectors, verity_bytes=512 * sectors)
    assert parse_head(layout.head()) == layout


def test_another_reader_of_partition_tables_accepts_it() -> None:
    assert LAYOUT.data_partuuid.bytes_le in gpt_event(LAYOUT.head())


@pytest.mark.parametrize("place", [0, 446, 510, 512, 528, 600, 1024, 1040, 1060, 1072, 1200, 5000])
def test_altered_byte_of_the_table_is_refused(place: int) -> None:
    head = bytearray(LAYOUT.head())
    head[place] ^= 0x10
    # The root hash lies in the table itself; its own bytes make another pack, with other checksums.
    assert refusal(parse_head, bytes(head)) == "pack"


@pytest.mark.parametrize("head", [b"", bytes(HEAD_BYTES), bytes(HEAD_BYTES - 1)])
def test_what_is_no_table_is_refused(head: bytes) -> None:
    assert refusal(parse_head, head) == "pack"


def test_partition_that_ends_before_it_begins_is_refused() -> None:
    head = bytearray(LAYOUT.head())
    head[1024 + 40 : 1024 + 48] = bytes(8)
    assert refusal(parse_head, bytes(head)) == "pack"


def test_partition_beyond_every_disk_is_refused() -> None:
    head = bytearray(LAYOUT.head())
    head[1024 + 40 : 1024 + 48] = b"\xff" * 8
    assert refusal(parse_head, bytes(head)) == "pack"


@given(st.binary(min_size=256, max_size=256))
def test_no_entries_make_the_table_parser_fail_otherwise(entries: bytes) -> None:
    head = bytearray(LAYOUT.head())
    head[1024 : 1024 + 256] = entries
    with pytest.raises(MalformedError):
        parse_head(bytes(head))


@pytest.mark.skipif(shutil.which("sfdisk") is None, reason="sfdisk is not installed")
def test_sfdisk_finds_no_fault_with_a_pack(tmp_path: Path) -> None:
    file = tmp_path / "pack.raw"
    file.write_bytes(pack_file(blocks(5)))
    done = subprocess.run(["sfdisk", "--verify", file], capture_output=True, text=True, check=True)
    assert "No errors detected" in done.stdout
