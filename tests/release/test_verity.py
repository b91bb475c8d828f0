"""Hash trees of dm-verity: our own computation, its refusals, and veritysetup beside it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError, MalformedError
from attestation.release.verity import (
    BLOCK_BYTES,
    Superblock,
    parse_superblock,
    root_of,
    split_blocks,
    verify_tree,
)
from tests.refusals import refusal
from tests.release.builders import blocks, other_uuid, tree_of

SIZES = [1, 2, 128, 129, 300]


def check(superblock: Superblock, data: bytes, tree: bytes, root: bytes) -> None:
    verify_tree(superblock, split_blocks(data), tree, root)


def test_one_block_has_its_salted_hash_as_root() -> None:
    superblock, tree, root = tree_of(blocks(1))
    assert (superblock.levels, tree) == ((), b"")
    assert root == hashlib.sha256(superblock.salt + blocks(1)).digest()


def test_two_levels_are_stored_with_the_top_first() -> None:
    superblock, tree, root = tree_of(blocks(300))
    assert superblock.levels == (3, 1)
    assert len(tree) == 4 * BLOCK_BYTES
    top = tree[:BLOCK_BYTES]
    assert root == hashlib.sha256(superblock.salt + top).digest()
    below = [
        hashlib.sha256(superblock.salt + block).digest()
        for block in split_blocks(tree[BLOCK_BYTES:])
    ]
    assert top == b"".join(below).ljust(BLOCK_BYTES, b"\0")


@pytest.mark.parametrize("count", SIZES)
def test_tree_over_unchanged_data_is_accepted(count: int) -> None:
    superblock, tree, root = tree_of(blocks(count))
    check(superblock, blocks(count), tree, root)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("place", [0, -1])
def test_altered_byte_of_data_is_refused(count: int, place: int) -> None:
    superblock, tree, root = tree_of(blocks(count))
    data = bytearray(blocks(count))
    data[place] ^= 1
    with pytest.raises(EvidenceError) as caught:
        check(superblock, bytes(data), tree, root)
    if count > 1:
        named = 0 if place == 0 else count - 1
        assert f"block {named} of the data" in caught.value.message


def test_altered_byte_of_data_changes_the_root() -> None:
    data = bytearray(blocks(300))
    before = tree_of(bytes(data))[2]
    data[150 * BLOCK_BYTES + 17] ^= 0x80
    assert tree_of(bytes(data))[2] != before


@pytest.mark.parametrize("place", [0, BLOCK_BYTES, -1])
def test_altered_byte_of_the_tree_is_refused(place: int) -> None:
    superblock, tree, root = tree_of(blocks(300))
    changed = bytearray(tree)
    changed[place] ^= 1
    code = refusal(check, superblock, blocks(300), bytes(changed), root, error=EvidenceError)
    assert code == "verity"


def test_another_salt_is_refused() -> None:
    superblock, tree, root = tree_of(blocks(3))
    other = replace(superblock, salt=bytes(32))
    assert refusal(check, other, blocks(3), tree, root, error=EvidenceError) == "verity"


def test_another_root_is_refused() -> None:
    superblock, tree, _root = tree_of(blocks(3))
    assert refusal(check, superblock, blocks(3), tree, bytes(32), error=EvidenceError) == "verity"


def test_data_and_tree_changed_together_have_another_root() -> None:
    _superblock, _tree, root = tree_of(blocks(3))
    data = blocks(3)[:-1] + b"!"
    superblock, tree, _other = tree_of(data)
    assert refusal(check, superblock, data, tree, root, error=EvidenceError) == "verity"


@pytest.mark.parametrize("data", [blocks(2), blocks(4), blocks(3) + b"x"])
def test_another_amount_of_data_is_refused(data: bytes) -> None:
    superblock, tree, root = tree_of(blocks(3))
    assert refusal(check, superblock, data, tree, root) == "verity"


def test_short_block_is_refused() -> None:
    superblock, _tree, _root = tree_of(blocks(1))
    assert refusal(root_of, superblock, [b"short"]) == "verity"


def test_tree_of_another_size_is_refused() -> None:
    superblock, tree, root = tree_of(blocks(3))
    assert refusal(check, superblock, blocks(3), tree + bytes(BLOCK_BYTES), root) == "verity"


def test_superblock_reads_back_as_it_was() -> None:
    superblock, _tree, _root = tree_of(blocks(300))
    assert parse_superblock(superblock.encode()) == superblock


@pytest.mark.parametrize("place", [0, 8, 12, 32, 37, 64, 68, 81, 82, 88 + 32, 400, 600])
def test_superblock_in_another_form_is_refused(place: int) -> None:
    block = bytearray(tree_of(blocks(3))[0].encode())
    block[place] ^= 0x40
    assert refusal(parse_superblock, bytes(block)) == "verity"


def test_superblock_of_another_length_is_refused() -> None:
    assert refusal(parse_superblock, bytes(512)) == "verity"


@pytest.mark.parametrize("count", [0, 1 << 51])
def test_impossible_number_of_blocks_is_refused(count: int) -> None:
    assert refusal(Superblock, uuid=other_uuid(), data_blocks=count, salt=b"") == "verity"


def test_salt_that_is_too_long_is_refused() -> None:
    assert refusal(Superblock, uuid=other_uuid(), data_blocks=1, salt=bytes(257)) == "verity"


@given(st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES))
def test_no_bytes_make_the_superblock_parser_fail_otherwise(block: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_superblock(block)


@given(count=st.integers(1, (1 << 51) - 1), salt=st.binary(max_size=256), own=st.uuids())
def test_every_superblock_reads_back(count: int, salt: bytes, own: uuid.UUID) -> None:
    superblock = Superblock(uuid=own, data_blocks=count, salt=salt)
    assert parse_superblock(superblock.encode()) == superblock


@pytest.mark.skipif(shutil.which("veritysetup") is None, reason="veritysetup is not installed")
@pytest.mark.parametrize("count", [*SIZES, 128 * 128 + 1])
def test_veritysetup_computes_the_same_bytes(count: int, tmp_path: Path) -> None:
    data = blocks(count)
    superblock, tree, root = tree_of(data)
    data_file, tree_file = tmp_path / "data", tmp_path / "tree"
    data_file.write_bytes(data)
    tree_file.touch()
    done = subprocess.run(
        [
            *("veritysetup", "format", "--salt", superblock.salt.hex()),
            *("--uuid", str(superblock.uuid), str(data_file), str(tree_file)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert root.hex() in done.stdout
    # It does not fill up the superblock's block where nothing follows.
    assert tree_file.read_bytes().ljust(BLOCK_BYTES, b"\0") == superblock.encode() + tree
