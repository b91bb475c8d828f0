"""Tiles: their paths, their bytes, and proofs from tiles that equal proofs from all leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import MalformedError, UnavailableError
from attestation.merkle import tree
from attestation.merkle.tiles import (
    MAX_ENTRY_BYTES,
    TILE_BYTES,
    TILE_WIDTH,
    ReadTile,
    Tile,
    bundles_of,
    consistency_path_from_tiles,
    encode_entry_bundle,
    inclusion_path_from_tiles,
    parse_entry_bundle,
    parse_hash_tile,
    parse_tile_path,
    root_from_tiles,
    tile_root,
    tiles_of,
    width_of,
)
from tests.refusals import refusal

MOST_LEAVES = 70_000
LEAVES = [tree.leaf_hash(number.to_bytes(4, "big")) for number in range(MOST_LEAVES)]
BILLION = 1_234_567_890


def levels() -> list[bytes]:
    """The hashes of every tile level over LEAVES, concatenated."""
    rows = [b"".join(LEAVES)]
    while len(rows[-1]) >= TILE_BYTES:
        row = rows[-1]
        starts = range(0, len(row) - TILE_BYTES + 1, TILE_BYTES)
        rows.append(b"".join(tree.root_hash(split(row[at : at + TILE_BYTES])) for at in starts))
    return rows


def split(row: bytes) -> list[bytes]:
    return [row[at : at + 32] for at in range(0, len(row), 32)]


ROWS = levels()


def read(level: int, index: int, width: int) -> bytes:
    start = index * TILE_BYTES
    return ROWS[level][start : start + width * 32]


def noted(asked: list[tuple[int, int]], inner: ReadTile = read) -> ReadTile:
    def reader(level: int, index: int, width: int) -> bytes:
        asked.append((level, index))
        return inner(level, index, width)

    return reader


def invented(level: int, index: int, width: int) -> bytes:
    """Tiles of a tree of any size, which no list of leaves could hold."""
    seeds = (level * 2**60 + index * 256 + position for position in range(width))
    return b"".join(tree.leaf_hash(seed.to_bytes(16, "big")) for seed in seeds)


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", Tile(level=0, index=0)),
        ("tile/0/000.p/1", Tile(level=0, index=0, width=1)),
        ("tile/1/067.p/255", Tile(level=1, index=67, width=255)),
        ("tile/63/999", Tile(level=63, index=999)),
        ("tile/0/x001/000", Tile(level=0, index=1000)),
        ("tile/entries/x001/x234/067", Tile(level=None, index=1_234_067)),
        ("tile/entries/x001/x000/000.p/9", Tile(level=None, index=1_000_000, width=9)),
    ],
)
def test_path_of_a_tile_is_written_and_read(path: str, tile: Tile) -> None:
    assert tile.path == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/1000",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/100/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/x000/001",
        "tile/0/x001/1",
        "tile/0/001/001",
        "tile/0/x001",
        "tile/0/x001/x002",
        "tile/0/x001//002",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1000",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000\n",
        "tile/0/../000",
        "tile/0/\u0660\u0660\u0660",
        "tile/entries/x018/x446/x744/x073/x709/x551/616",
        "tile/0/" + "x999/" * 300 + "999",
    ],
)
def test_other_paths_name_no_tile(path: str) -> None:
    assert refusal(parse_tile_path, path) == "tile_path"


def test_largest_index_has_a_path() -> None:
    tile = Tile(level=None, index=tree.MAX_SIZE)
    assert tile.path == "tile/entries/x018/x446/x744/x073/x709/x551/615"
    assert parse_tile_path(tile.path) == tile


@given(
    level=st.none() | st.integers(0, 63),
    index=st.integers(0, tree.MAX_SIZE),
    width=st.integers(1, 256),
)
def test_every_tile_has_one_path(level: int | None, index: int, width: int) -> None:
    tile = Tile(level=level, index=index, width=width)
    assert parse_tile_path(tile.path) == tile
    assert tile.full == Tile(level=level, index=index, width=256)


@given(st.text(alphabet="tile/0123x.pentrs", max_size=30))
def test_path_that_is_taken_is_the_tile_s_own(path: str) -> None:
    try:
        tile = parse_tile_path(path)
    except MalformedError:
        return
    assert tile.path == path


@pytest.mark.parametrize(
    "wrong",
    [{"level": 64}, {"level": -1}, {"index": -1}, {"index": 1 << 64}, {"width": 0}, {"width": 257}],
)
def test_tile_out_of_range_cannot_be_made(wrong: dict[str, Any]) -> None:
    assert refusal(Tile, **{"level": 0, "index": 0, **wrong}) == "tile_path"


def test_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = list(tiles_of(70_000))
    by_level = [[tile for tile in tiles if tile.level == level] for level in range(3)]
    assert [tile.width for tile in by_level[0]] == [256] * 273 + [112]
    assert [tile.width for tile in by_level[1]] == [256, 17]
    assert [tile.width for tile in by_level[2]] == [1]
    assert len(tiles) == sum(map(len, by_level))
    bundles = list(bundles_of(70_000))
    assert [(tile.level, tile.index, tile.width) for tile in bundles] == [
        (None, tile.index, tile.width) for tile in by_level[0]
    ]


def test_tree_of_256_has_a_full_tile_and_one_hash_above_it() -> None:
    assert [tile.path for tile in tiles_of(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == list(bundles_of(0)) == []


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_tiles_since_a_size_are_those_the_smaller_tree_lacks(one: int, other: int) -> None:
    since, size = sorted((one, other))
    had = set(tiles_of(since))
    assert list(tiles_of(size, since=since)) == [t for t in tiles_of(size) if t not in had]
    bundles = set(bundles_of(since))
    assert list(bundles_of(size, since=since)) == [t for t in bundles_of(size) if t not in bundles]


@given(st.integers(0, 200_000))
def test_width_of_a_tile_is_the_one_it_is_listed_with(size: int) -> None:
    for tile in tiles_of(size):
        assert tile.level is not None
        assert width_of(size=size, level=tile.level, index=tile.index) == tile.width
    assert width_of(size=size, level=0, index=size // 256 + 1) == 0
    assert width_of(size=size, level=9, index=0) == 0


def test_tile_of_hashes_is_taken_apart() -> None:
    assert parse_hash_tile(read(0, 3, 7), width=7) == LEAVES[768:775]
    assert tile_root(read(0, 3, 256)) == tree.root_hash(LEAVES[768:1024])


@pytest.mark.parametrize("size", [0, 31, 33, 64, TILE_BYTES])
def test_tile_of_another_length_is_refused(size: int) -> None:
    assert refusal(parse_hash_tile, bytes(size), width=1) == "tile"


def test_only_a_full_tile_has_a_hash_above_it() -> None:
    assert refusal(tile_root, bytes(TILE_BYTES - 32)) == "tile"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundle_of_entries_is_taken_apart(entries: list[bytes]) -> None:
    data = encode_entry_bundle(entries)
    assert parse_entry_bundle(data, width=len(entries)) == entries
    for wrong in (len(entries) - 1, len(entries) + 1):
        assert refusal(parse_entry_bundle, data, width=wrong) == "bundle"
    assert refusal(parse_entry_bundle, data[:-1], width=len(entries)) == "bundle"
    assert refusal(parse_entry_bundle, data + b"\x00", width=len(entries)) == "bundle"


@given(st.binary(max_size=64), st.integers(1, 4))
def test_bundle_that_is_taken_is_its_own_encoding(data: bytes, width: int) -> None:
    try:
        entries = parse_entry_bundle(data, width=width)
    except MalformedError:
        return
    assert encode_entry_bundle(entries) == data


def test_longest_entry_fits_and_a_longer_one_does_not() -> None:
    longest = bytes(MAX_ENTRY_BYTES)
    assert parse_entry_bundle(encode_entry_bundle([longest]), width=1) == [longest]
    assert refusal(encode_entry_bundle, [longest + b"\x00"]) == "bundle"
    assert refusal(encode_entry_bundle, []) == "bundle"
    assert refusal(encode_entry_bundle, [b""] * 257) == "bundle"


@pytest.mark.parametrize("size", [*range(12), 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537])
def test_root_from_tiles_is_the_root_of_the_leaves(size: int) -> None:
    assert root_from_tiles(size, read) == tree.root_hash(LEAVES[:size])


@given(st.integers(1, 3000), st.data())
def test_proofs_from_tiles_are_those_from_the_leaves(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    older = data.draw(st.integers(1, size))
    leaves = LEAVES[:size]
    assert root_from_tiles(size, read) == tree.root_hash(leaves)
    assert inclusion_path_from_tiles(index, size, read) == tree.inclusion_path(index, leaves)
    assert consistency_path_from_tiles(older, size, read) == tree.consistency_path(older, leaves)


@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 65_536), (65_535, 65_537), (65_536, 65_537), (69_999, 70_000), (1, 70_000)],
)
def test_proofs_across_three_levels_of_tiles_hold(index: int, size: int) -> None:
    root, path = root_from_tiles(size, read), inclusion_path_from_tiles(index, size, read)
    tree.verify_inclusion(leaf_hash=LEAVES[index], index=index, size=size, path=path, root=root)
    assert path == tree.inclusion_path(index, LEAVES[:size])
    older = index + 1
    assert consistency_path_from_tiles(older, size, read) == tree.consistency_path(
        older, LEAVES[:size]
    )


@given(st.integers(1, BILLION), st.integers(1, BILLION))
def test_proofs_of_a_billion_leaves_ask_for_a_few_tiles_once_each(one: int, other: int) -> None:
    size1, size2 = sorted((one, other))
    for make in (
        lambda ask: root_from_tiles(size2, ask),
        lambda ask: inclusion_path_from_tiles(size1 - 1, size2, ask),
        lambda ask: consistency_path_from_tiles(size1, size2, ask),
    ):
        asked: list[tuple[int, int]] = []
        make(noted(asked, invented))
        assert len(asked) == len(set(asked)) <= 8


def test_empty_tree_needs_no_tile() -> None:
    asked: list[tuple[int, int]] = []
    assert root_from_tiles(0, noted(asked)) == tree.EMPTY_ROOT
    assert asked == []


def test_every_tile_is_asked_for_with_the_width_it_has_in_the_tree() -> None:
    widths: set[Tile] = set()

    def reader(level: int, index: int, width: int) -> bytes:
        widths.add(Tile(level=level, index=index, width=width))
        return read(level, index, width)

    for index in range(0, 70_000, 7001):
        inclusion_path_from_tiles(index, 70_000, reader)
    assert widths <= set(tiles_of(70_000))


@pytest.mark.parametrize(
    ("prove", "arguments"),
    [
        (inclusion_path_from_tiles, (3, 3)),
        (inclusion_path_from_tiles, (-1, 3)),
        (inclusion_path_from_tiles, (0, 1 << 64)),
        (consistency_path_from_tiles, (0, 3)),
        (consistency_path_from_tiles, (4, 3)),
        (consistency_path_from_tiles, (1, 1 << 64)),
        (root_from_tiles, (-1,)),
        (root_from_tiles, (1 << 64,)),
    ],
)
def test_proof_that_cannot_exist_is_refused(
    prove: Callable[..., object], arguments: tuple[int, ...]
) -> None:
    assert refusal(prove, *arguments, read) == "proof"


def test_tile_shorter_than_asked_for_is_refused() -> None:
    short = noted([], lambda level, index, width: read(level, index, width)[:-1])
    assert refusal(inclusion_path_from_tiles, 2, 700, short) == "tile"


def test_failure_of_the_reader_is_passed_on() -> None:
    def absent(level: int, index: int, width: int) -> bytes:
        raise UnavailableError("no such tile", code="absent")

    assert refusal(root_from_tiles, 5, absent, error=UnavailableError) == "absent"


def test_widths_are_those_of_the_specification() -> None:
    assert (TILE_WIDTH, TILE_BYTES) == (256, 8192)
