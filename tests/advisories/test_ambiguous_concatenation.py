"""dstack 553: values were hashed one after the other without a border, so that two different lists
of values had one hash.

Lesson: whatever is hashed has one reading.  Statements are canonical JSON, leaves and nodes have
different prefixes, labels of commitments cannot run into ids.
"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.digest import Digest
from attestation.merkle.tree import leaf_hash, node_hash, root_hash
from attestation.receipt.commitments import LABELS, commit, commitment_key
from attestation.statement import Keyset
from tests.support.bundles import Gateway

SECRET = bytes(32)
GATEWAY = Gateway()
JTIS = [GATEWAY.secret(f"{n}").hex()[:32] for n in range(8)]


def test_every_label_of_every_receipt_has_a_key_of_its_own() -> None:
    keys = [commitment_key(SECRET, label, jti) for label in LABELS for jti in JTIS]
    assert len(set(keys)) == len(keys) == len(LABELS) * len(JTIS)


def test_no_label_is_the_beginning_of_another() -> None:
    for one, other in itertools.permutations(LABELS, 2):
        assert not other.startswith(one)
    assert all("/" not in label for label in LABELS)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_commitment_is_to_one_body_only(one: bytes, other: bytes) -> None:
    key = commitment_key(SECRET, "req", JTIS[0])
    same = commit(key, Digest.of(one)) == commit(key, Digest.of(other))
    assert same == (one == other)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_node_of_a_tree_is_never_a_leaf(left: bytes, right: bytes) -> None:
    assert node_hash(left, right) != leaf_hash(left + right)
    assert root_hash([left, right]) != root_hash([left + right])


@given(st.lists(st.binary(max_size=3), max_size=5), st.lists(st.binary(max_size=3), max_size=5))
def test_two_lists_of_leaves_have_one_root_only_if_they_are_one(
    one: list[bytes], other: list[bytes]
) -> None:
    roots = [root_hash([leaf_hash(entry) for entry in entries]) for entries in (one, other)]
    assert (roots[0] == roots[1]) == (one == other)


def test_statements_that_differ_in_any_way_have_different_report_data() -> None:
    seeds = "abcdef"
    boots = [Gateway(seed=seed, platform=GATEWAY.machine).evidence for seed in seeds]
    assert len({boot.statement.report_data for boot in boots}) == len(seeds)
    keysets: list[Keyset] = [boot.keyset for boot in boots]
    assert len({keyset.digest for keyset in keysets}) == len(seeds)
