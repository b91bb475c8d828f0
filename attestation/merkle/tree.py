"""RFC 6962 Merkle trees over SHA-256: roots, audit paths, consistency proofs.

Hashes are 32 bytes.  A leaf is hashed with the prefix 0x00 and an inner node with 0x01
(RFC 6962 section 2.1), so that neither can stand for the other.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attestation.errors import EvidenceError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES = 32
MAX_SIZE = (1 << 64) - 1
EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry: SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_hash(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, MTH of RFC 6962 section 2.1; empty: SHA-256 of nothing."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root


def root_of_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root over complete subtrees that stand side by side, the largest first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of the leaf hash at `index` (RFC 6962 section 2.1.1), leaf first."""
    if not 0 <= index < len(leaves):
        raise _impossible("a leaf of the tree", f"index {index} of {len(leaves)}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root_hash(leaves[middle:high]))
            high = middle
        else:
            path.append(root_hash(leaves[low:middle]))
            low = middle
    return path[::-1]


def consistency_path(size: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the proof that the tree over the first `size` leaf hashes is a prefix of this one.

    RFC 6962 section 2.1.2, deepest node first; empty if the trees are equal.  The empty tree is a
    prefix of every tree, but has no proof: 1 <= size <= len(leaves).
    """
    if not 1 <= size <= len(leaves):
        raise _impossible(f"a size of 1 to {len(leaves)}", f"{size}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while size < high:
        middle = low + _split(high - low)
        if size <= middle:
            path.append(root_hash(leaves[middle:high]))
            high = middle
        else:
            path.append(root_hash(leaves[low:middle]))
            low = middle
    if low > 0:
        path.append(root_hash(leaves[low:high]))
    return path[::-1]


def verify_inclusion(
    *, leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check that the leaf is the one at `index` in the tree of `size` leaves and `root`.

    RFC 9162 section 2.1.3.2.  Raises `EvidenceError` (code "inclusion").
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise _not_included("an index below the size of the tree", f"{index} of {size}")
    _require_hashes([leaf_hash, *path], "inclusion")
    node, last, computed = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            raise _not_included("a shorter path", f"a path of length {len(path)}")
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise _not_included("a longer path", f"a path of length {len(path)}")
    if computed != root:
        raise _not_included("the path to lead to the root", "another root")


def verify_consistency(
    *, size1: int, root1: bytes, size2: int, root2: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree of `size1` leaves and `root1` is a prefix of the one of `size2`.

    RFC 9162 section 2.1.4.2.  Trees of one size need equal roots and an empty path.  The empty
    tree is a prefix of everything, which proves nothing, and is refused.  Raises `EvidenceError`
    (code "consistency").
    """
    if not 1 <= size1 <= size2 <= MAX_SIZE:
        raise _inconsistent("sizes of at least 1 in ascending order", f"{size1} and {size2}")
    _require_hashes([root1, *path], "consistency")
    if size1 == size2:
        if path or root1 != root2:
            raise _inconsistent("equal roots and no path at equal sizes", "something else")
        return
    if not path:
        raise _inconsistent("a path between trees of different sizes", "none")
    first, second = _walk(size1, size2, root1, path)
    if first != root1:
        raise _inconsistent("the path to lead to the first root", "another root")
    if second != root2:
        raise _inconsistent("the path to lead to the second root", "another root")


class Tree:
    """An append-only tree that keeps only the roots of its complete subtrees, largest first.

    Appending costs one hash on average, the root at most 64.
    """

    __slots__ = ("_peaks", "_size")

    def __init__(self) -> None:
        self._peaks: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def root(self) -> bytes:
        """The root over all leaves so far."""
        return root_of_peaks(self._peaks)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash (32 bytes)."""
        node, size = leaf, self._size
        while size & 1:
            node, size = node_hash(self._peaks.pop(), node), size >> 1
        self._peaks.append(node)
        self._size += 1


def _walk(size1: int, size2: int, root1: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the two roots that a consistency path leads to, 0 < size1 < size2."""
    # A first tree that is a complete subtree is its own first node and is not sent.
    nodes = [root1, *path] if size1 & (size1 - 1) == 0 else list(path)
    node, last = size1 - 1, size2 - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            raise _inconsistent("a shorter path", f"a path of length {len(path)}")
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise _inconsistent("a longer path", f"a path of length {len(path)}")
    return first, second


def _split(size: int) -> int:
    """Return the largest power of two below `size` (size > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _require_hashes(hashes: Sequence[bytes], code: str) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise EvidenceError(
            "a Merkle hash has the wrong length", code=code, expected=f"{HASH_BYTES} bytes each"
        )


def _not_included(expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        "the inclusion proof does not hold", code="inclusion", expected=expected, observed=observed
    )


def _inconsistent(expected: str, observed: str) -> EvidenceError:
    return EvidenceError(
        "the consistency proof does not hold",
        code="consistency",
        expected=expected,
        observed=observed,
    )


def _impossible(expected: str, observed: str) -> MalformedError:
    return MalformedError(
        "there is no such Merkle proof", code="proof", expected=expected, observed=observed
    )
