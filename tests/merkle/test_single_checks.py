"""Checks that another one would hide: each is the only thing between a forgery and a pass."""

from __future__ import annotations

import hashlib

import pytest

from attestation.encoding import base64std
from attestation.errors import EvidenceError, MalformedError
from attestation.merkle.note import parse_note, parse_vkey
from attestation.merkle.tree import (
    MAX_SIZE,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from tests.refusals import refusal

LEAF, SIBLING = leaf_hash(b"leaf"), leaf_hash(b"sibling")


def folded(leaf: bytes, path: list[bytes]) -> bytes:
    """The root that a path from the first leaf of a tree leads to."""
    for sibling in path:
        leaf = node_hash(leaf, sibling)
    return leaf


@pytest.mark.parametrize(
    ("leaf", "sibling"),
    [(LEAF[:31], SIBLING), (LEAF + b"\x00", SIBLING), (LEAF, SIBLING[:31]), (LEAF, SIBLING + b"s")],
)
def test_hash_of_another_length_is_refused_where_it_leads_to_the_root(
    leaf: bytes, sibling: bytes
) -> None:
    root = node_hash(leaf, sibling)
    proof = {"leaf_hash": leaf, "index": 0, "size": 2, "path": [sibling], "root": root}
    assert refusal(verify_inclusion, **proof, error=EvidenceError) == "inclusion"


def test_tree_larger_than_any_is_refused_where_the_path_leads_to_its_root() -> None:
    path = [bytes([level]) * 32 for level in range((MAX_SIZE + 1).bit_length() - 1)]
    root = folded(LEAF, path)
    proof = {"leaf_hash": LEAF, "index": 0, "size": MAX_SIZE + 1, "path": path, "root": root}
    assert refusal(verify_inclusion, **proof, error=EvidenceError) == "inclusion"


@pytest.mark.parametrize("size", [1, 2])
def test_path_that_goes_on_above_the_root_is_refused_where_it_leads_there(size: int) -> None:
    path = [SIBLING][: size - 1]
    root = node_hash(b"a" * 32, folded(LEAF, path))
    proof = {"leaf_hash": LEAF, "index": 0, "size": size, "path": [*path, b"a" * 32], "root": root}
    assert refusal(verify_inclusion, **proof, error=EvidenceError) == "inclusion"


@pytest.mark.parametrize(
    ("root1", "sibling"), [(LEAF[:31], SIBLING), (LEAF, SIBLING[:31]), (LEAF + b"\x00", SIBLING)]
)
def test_hash_of_another_length_is_no_prefix(root1: bytes, sibling: bytes) -> None:
    root2 = node_hash(root1, sibling)
    proof = {"size1": 1, "root1": root1, "size2": 2, "root2": root2, "path": [sibling]}
    assert refusal(verify_consistency, **proof, error=EvidenceError) == "consistency"


def test_equal_roots_of_another_length_are_no_trees() -> None:
    proof = {"size1": 3, "root1": b"short", "size2": 3, "root2": b"short", "path": []}
    assert refusal(verify_consistency, **proof, error=EvidenceError) == "consistency"


@pytest.mark.parametrize("key", [b"\x02" + bytes(32), b"\x01" + bytes(31), b"\x01" + bytes(33)])
def test_key_of_another_type_or_length_is_refused_under_its_own_id(key: bytes) -> None:
    key_id = hashlib.sha256(b"log\n" + key).digest()[:4].hex()
    with pytest.raises(MalformedError) as caught:
        parse_vkey(f"log+{key_id}+{base64std.encode(key)}")
    assert caught.value.expected == "an Ed25519 key (type 1, 32 bytes)"


def test_signature_lines_without_a_text_are_no_note() -> None:
    line = f"\u2014 log {base64std.encode(bytes(68))}\n"
    assert parse_note(f"text\n\n{line}").text == "text\n"
    assert refusal(parse_note, line) == "note"
