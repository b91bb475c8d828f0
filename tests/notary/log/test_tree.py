"""The tree as tiles: the same roots and paths as the plain tree, whatever is on disk or not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import UnavailableError
from attestation.merkle.tiles import (
    Tile,
    bundles_of,
    encode_entry_bundle,
    root_from_tiles,
    tiles_of,
)
from attestation.merkle.tree import (
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_hash,
    verify_inclusion,
)
from gateway.notary.log.tree import TileTree

MOST = 70_000
ENTRIES = [b"\x01" + number.to_bytes(32, "big") for number in range(MOST)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
SIZES = [1, 2, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537, 65_792, MOST]


def no_files(_tile: Tile) -> bytes:
    raise FileNotFoundError("nothing is exported")


class Files:
    """Exported tiles in memory; what is asked for is counted."""

    def __init__(self) -> None:
        self.tiles: dict[Tile, bytes] = {}
        self.asked: list[Tile] = []

    def load(self, tile: Tile) -> bytes:
        self.asked.append(tile)
        if tile not in self.tiles:
            raise FileNotFoundError(tile.path)
        return self.tiles[tile]


def tree_of(size: int) -> TileTree:
    tree = TileTree(no_files)
    for entry in ENTRIES[:size]:
        tree.append(entry)
    return tree


def exported(tree: TileTree, files: Files, size: int) -> None:
    for tile in itertools.chain(tiles_of(size), bundles_of(size)):
        read = tree.read_bundle if tile.level is None else None
        files.tiles[tile] = (
            read(tile.index, tile.width)
            if read
            else tree.read_tile(tile.level or 0, tile.index, tile.width)
        )


@pytest.fixture(scope="module")
def large() -> TileTree:
    return tree_of(MOST)


@pytest.mark.parametrize("size", SIZES)
def test_root_is_that_of_the_plain_tree_while_it_grows(size: int, large: TileTree) -> None:
    expected = root_hash(LEAVES[:size])
    assert tree_of(size).root == expected
    assert root_from_tiles(size, large.read_tile) == expected


def test_empty_tree_has_the_empty_root() -> None:
    assert TileTree(no_files).root == root_hash([])
    assert TileTree(no_files).size == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_paths_are_those_of_the_plain_tree(large: TileTree, data: st.DataObject) -> None:
    size = data.draw(st.integers(min_value=1, max_value=3000))
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    assert large.inclusion_path(index, size) == inclusion_path(index, LEAVES[:size])
    assert large.consistency_path(index + 1, size) == consistency_path(index + 1, LEAVES[:size])


@pytest.mark.parametrize("size", SIZES)
def test_path_in_a_large_tree_leads_to_its_root(size: int, large: TileTree) -> None:
    for index in {0, size // 2, size - 1}:
        verify_inclusion(
            leaf_hash=LEAVES[index],
            index=index,
            size=size,
            path=large.inclusion_path(index, size),
            root=root_from_tiles(size, large.read_tile),
        )


def test_released_tiles_are_read_back_and_leave_memory() -> None:
    files = Files()
    tree = TileTree(files.load)
    for entry in ENTRIES[:2000]:
        tree.append(entry)
    exported(tree, files, 2000)
    for tile in list(tree.unexported()):
        tree.release(tile)
    assert list(tree.unexported()) == []
    assert files.asked == []
    assert tree.inclusion_path(5, 2000) == inclusion_path(5, LEAVES[:2000])
    assert files.asked != []
    before = len(files.asked)
    assert tree.inclusion_path(5, 2000) == inclusion_path(5, LEAVES[:2000])
    assert len(files.asked) == before  # read once, then cached


def test_memory_does_not_grow_with_the_log() -> None:
    files = Files()
    tree = TileTree(files.load)
    for entry in ENTRIES:
        tree.append(entry)
        if tree.size % 1000 == 0:
            for tile in tree.unexported():
                tree.release(tile)
    assert len(tree._fresh) < 20


@pytest.mark.parametrize("size", SIZES)
def test_tree_resumed_from_files_goes_on_as_if_it_had_never_stopped(
    size: int, large: TileTree
) -> None:
    files = Files()
    exported(large, files, size)
    tree = TileTree(files.load)
    tree.resume(size, files.load)
    assert (tree.size, tree.root) == (size, root_hash(LEAVES[:size]))
    for entry in ENTRIES[size : size + 300]:
        tree.append(entry)
    grown = min(size + 300, MOST)
    assert tree.root == root_hash(LEAVES[:grown])
    assert tree.inclusion_path(grown - 1, grown) == large.inclusion_path(grown - 1, grown)


def test_resuming_from_a_tile_of_another_width_is_refused() -> None:
    files = Files()
    exported(tree_of(300), files, 300)
    tile = Tile(level=0, index=1, width=44)
    files.tiles[tile] = files.tiles[tile][:-32]
    with pytest.raises(UnavailableError) as refusal:
        TileTree(files.load).resume(300, files.load)
    assert refusal.value.code == "log_unreadable"


@pytest.mark.parametrize("content", [b"", b"short", bytes(256 * 32 + 1), None])
def test_tile_of_another_length_or_none_is_unreadable(content: bytes | None) -> None:
    files = Files()
    tree = TileTree(files.load)
    for entry in ENTRIES[:600]:
        tree.append(entry)
    exported(tree, files, 600)
    for tile in list(tree.unexported()):
        tree.release(tile)
    broken = Tile(level=0, index=0)
    if content is None:
        del files.tiles[broken]
    else:
        files.tiles[broken] = content
    with pytest.raises(UnavailableError) as refusal:
        tree.inclusion_path(3, 600)
    assert refusal.value.code == "log_unreadable"


def test_rotten_tile_gives_no_proof() -> None:
    files = Files()
    tree = TileTree(files.load)
    for entry in ENTRIES[:600]:
        tree.append(entry)
    exported(tree, files, 600)
    root = tree.root
    for tile in list(tree.unexported()):
        tree.release(tile)
    assert tree.proved_path(entry=ENTRIES[3], index=3, size=600, root=root)
    rotten = bytearray(files.tiles[Tile(level=0, index=0)])
    rotten[40] ^= 1
    files.tiles[Tile(level=0, index=0)] = bytes(rotten)
    tree._cache.clear()
    with pytest.raises(UnavailableError) as refusal:
        tree.proved_path(entry=ENTRIES[3], index=3, size=600, root=root)
    assert refusal.value.code == "log_unreadable"


def test_every_width_up_to_the_published_size_is_served_and_nothing_beyond() -> None:
    tree = tree_of(1000)
    assert tree.read_resource("tile/0/000") is None
    tree.publish(700)
    assert tree.read_resource("tile/0/000") == b"".join(LEAVES[:256])
    assert tree.read_resource("tile/0/001") == b"".join(LEAVES[256:512])
    assert tree.read_resource("tile/0/002") is None
    for width in range(1, 189):
        assert tree.read_resource(f"tile/0/002.p/{width}") == b"".join(LEAVES[512 : 512 + width])
        assert tree.read_resource(f"tile/entries/002.p/{width}") == encode_entry_bundle(
            ENTRIES[512 : 512 + width]
        )
    # Partial forms of a tile that is full by now, which others may still ask for.
    assert tree.read_resource("tile/0/000.p/9") == b"".join(LEAVES[:9])
    assert tree.read_resource("tile/1/000.p/2") == b"".join(
        root_hash(LEAVES[start : start + 256]) for start in (0, 256)
    )
    for beyond in ("tile/0/002.p/189", "tile/1/000.p/3", "tile/2/000.p/1", "tile/entries/002"):
        assert tree.read_resource(beyond) is None
    tree.publish(100)
    assert tree.read_resource("tile/0/001") is not None  # what was published stays published


@pytest.mark.parametrize(
    "path",
    [
        "checkpoint",
        "tile/0/0",
        "tile/00/000",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/x000/000",
        "tile/0/../../boot.json",
        "tile/entries/-01",
        "",
        "tile/64/000",
    ],
)
def test_no_other_path_is_a_resource(path: str) -> None:
    tree = tree_of(300)
    tree.publish(300)
    assert tree.read_resource(path) is None
