"""RFC 6962 trees: proofs that are made hold, and nothing else does."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError
from attestation.merkle.tree import (
    EMPTY_ROOT,
    MAX_SIZE,
    Tree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from tests.refusals import refusal

# The eight entries and roots that implementations of RFC 6962 have exchanged since 2013.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(2, "big")) for number in range(count)]


def recursive_root(nodes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 word for word, as a second opinion."""
    if not nodes:
        return hashlib.sha256(b"").digest()
    if len(nodes) == 1:
        return nodes[0]
    split = 1
    while split * 2 < len(nodes):
        split *= 2
    return hashlib.sha256(
        b"\x01" + recursive_root(nodes[:split]) + recursive_root(nodes[split:])
    ).digest()


def test_roots_are_those_other_implementations_have() -> None:
    assert [root_hash(LEAVES[:size]).hex() for size in range(1, 9)] == ROOTS
    assert root_hash([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_leaf_and_node_hashes_have_different_prefixes() -> None:
    assert leaf_hash(b"x" * 64) == hashlib.sha256(b"\x00" + b"x" * 64).digest()
    assert node_hash(b"x" * 32, b"x" * 32) == hashlib.sha256(b"\x01" + b"x" * 64).digest()


@given(st.integers(0, 70))
def test_growing_tree_has_the_root_of_the_definition_at_every_size(count: int) -> None:
    nodes = leaves(count)
    tree = Tree()
    for size, node in enumerate(nodes):
        assert tree.size == size
        assert tree.root == recursive_root(nodes[:size])
        tree.append(node)
    assert tree.size == count
    assert tree.root == recursive_root(nodes) == root_hash(nodes)


@pytest.mark.parametrize("size", range(1, 34))
def test_every_leaf_of_a_tree_is_proved_to_be_at_its_index_and_no_other(size: int) -> None:
    nodes = leaves(size)
    root = root_hash(nodes)
    for index, node in enumerate(nodes):
        path = inclusion_path(index, nodes)
        verify_inclusion(leaf_hash=node, index=index, size=size, path=path, root=root)
        for other in {0, index - 1, index + 1, index ^ 1, index ^ 2, size} - {index}:
            refused_inclusion(node, other, size, path, root)


@pytest.mark.parametrize("size", range(1, 34))
def test_every_smaller_tree_is_proved_to_be_a_prefix(size: int) -> None:
    nodes = leaves(size)
    root = root_hash(nodes)
    for smaller in range(1, size + 1):
        first = root_hash(nodes[:smaller])
        path = consistency_path(smaller, nodes)
        verify_consistency(size1=smaller, root1=first, size2=size, root2=root, path=path)
        for other in {smaller - 1, smaller + 1} - {size}:
            refused_consistency(other, first, size, root, path)
        if smaller < size:
            refused_consistency(smaller, root, size, first, path)


def refused_inclusion(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> None:
    arguments = {"leaf_hash": leaf, "index": index, "size": size, "path": path, "root": root}
    assert refusal(verify_inclusion, error=EvidenceError, **arguments) == "inclusion"


def refused_consistency(
    size1: int, root1: bytes, size2: int, root2: bytes, path: list[bytes]
) -> None:
    arguments = {"size1": size1, "root1": root1, "size2": size2, "root2": root2, "path": path}
    assert refusal(verify_consistency, error=EvidenceError, **arguments) == "consistency"


TREES = st.integers(2, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@given(TREES, st.integers(0, 7), st.data())
def test_inclusion_proof_with_any_changed_part_is_refused(
    tree: tuple[int, int], bit: int, data: st.DataObject
) -> None:
    size, index = tree
    nodes = leaves(size)
    root, path = root_hash(nodes), inclusion_path(index, nodes)
    refused_inclusion(flipped(nodes[index], bit), index, size, path, root)
    refused_inclusion(nodes[index], index, size, path, flipped(root, bit))
    refused_inclusion(nodes[index], index, size, path[:-1], root)
    refused_inclusion(nodes[index], index, size, path[1:], root)
    refused_inclusion(nodes[index], index, size, [*path, root], root)
    refused_inclusion(nodes[index], index, size, [root, *path], root)
    position = data.draw(st.integers(0, len(path) - 1))
    changed = [*path[:position], flipped(path[position], bit), *path[position + 1 :]]
    refused_inclusion(nodes[index], index, size, changed, root)


@given(TREES, st.integers(0, 7), st.data())
def test_consistency_proof_with_any_changed_part_is_refused(
    tree: tuple[int, int], bit: int, data: st.DataObject
) -> None:
    size, smaller = tree[0], tree[1] or 1
    nodes = leaves(size)
    first, root, path = (
        root_hash(nodes[:smaller]),
        root_hash(nodes),
        consistency_path(smaller, nodes),
    )
    refused_consistency(smaller, flipped(first, bit), size, root, path)
    refused_consistency(smaller, first, size, flipped(root, bit), path)
    refused_consistency(smaller, first, size, root, path[:-1])
    refused_consistency(smaller, first, size, root, path[1:])
    refused_consistency(smaller, first, size, root, [*path, root])
    refused_consistency(smaller, first, size, root, [first, *path])
    position = data.draw(st.integers(0, len(path) - 1))
    changed = [*path[:position], flipped(path[position], bit), *path[position + 1 :]]
    refused_consistency(smaller, first, size, root, changed)


def flipped(value: bytes, bit: int) -> bytes:
    return bytes([value[0] ^ 1 << bit]) + value[1:]


def test_proof_for_a_size_or_index_out_of_range_is_refused() -> None:
    leaf = LEAVES[0]
    for index, size in ((0, 0), (1, 1), (-1, 1), (2, 1), (0, -1), (0, MAX_SIZE + 1)):
        refused_inclusion(leaf, index, size, [], leaf)
    refused_inclusion(leaf, MAX_SIZE - 1, MAX_SIZE, [], leaf)
    for size1, size2 in ((0, 0), (0, 1), (2, 1), (-1, 1), (MAX_SIZE + 1, MAX_SIZE + 1)):
        refused_consistency(size1, leaf, size2, leaf, [])
    verify_consistency(size1=MAX_SIZE, root1=leaf, size2=MAX_SIZE, root2=leaf, path=[])


def test_largest_tree_has_a_proof_of_its_last_leaf() -> None:
    # 2^64 - 1 leaves make complete subtrees of 2^63, 2^62, … 1 leaves; the last leaf is the last.
    peaks = leaves(64)
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    path = peaks[-2::-1]
    verify_inclusion(leaf_hash=peaks[-1], index=MAX_SIZE - 1, size=MAX_SIZE, path=path, root=root)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_hashes_of_another_length_are_refused(length: int) -> None:
    odd, leaf, root = bytes(length), LEAVES[0], root_hash(LEAVES[:2])
    refused_inclusion(odd, 0, 2, [LEAVES[1]], root)
    refused_inclusion(leaf, 0, 2, [odd], root)
    refused_inclusion(leaf, 0, 2, [LEAVES[1]], odd)
    refused_inclusion(odd, 0, 1, [], odd)
    refused_consistency(1, odd, 2, root, [LEAVES[1]])
    refused_consistency(1, leaf, 2, odd, [LEAVES[1]])
    refused_consistency(1, leaf, 2, root, [odd])
    refused_consistency(1, odd, 1, odd, [])


def test_trees_of_one_size_need_one_root_and_no_path() -> None:
    root, other = root_hash(LEAVES), root_hash(LEAVES[:7])
    verify_consistency(size1=8, root1=root, size2=8, root2=root, path=[])
    refused_consistency(8, root, 8, other, [])
    refused_consistency(8, root, 8, root, [other])


def test_trees_of_different_sizes_need_a_path() -> None:
    refused_consistency(4, root_hash(LEAVES[:4]), 8, root_hash(LEAVES), [])
    refused_consistency(3, root_hash(LEAVES[:3]), 8, root_hash(LEAVES), [])


@pytest.mark.parametrize("index", [-1, 8, 100])
def test_there_is_no_path_for_a_leaf_that_is_not_there(index: int) -> None:
    assert refusal(inclusion_path, index, LEAVES) == "proof"
    assert refusal(inclusion_path, 0, []) == "proof"


@pytest.mark.parametrize("size", [-1, 0, 9])
def test_there_is_no_path_for_a_size_the_tree_never_had(size: int) -> None:
    assert refusal(consistency_path, size, LEAVES) == "proof"


def test_published_path_of_the_second_of_three_leaves() -> None:
    nodes = leaves(3)
    assert inclusion_path(1, nodes) == [nodes[0], nodes[2]]
    assert inclusion_path(2, nodes) == [node_hash(nodes[0], nodes[1])]
    assert consistency_path(2, nodes) == [nodes[2]]
    assert consistency_path(3, leaves(4)) == [nodes[2], leaves(4)[3], node_hash(*nodes[:2])]
