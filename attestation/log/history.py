"""Is the log of today the log of yesterday with entries added?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import EvidenceError
from attestation.merkle.tiles import consistency_path_from_tiles, root_from_tiles, width_of
from attestation.merkle.tree import HASH_BYTES, verify_consistency

if TYPE_CHECKING:
    from attestation.log.resources import Resources
    from attestation.merkle.checkpoint import Checkpoint

SHRUNK = "log_shrunk"
TWO_ROOTS = "log_two_roots"
FORK = "log_fork"
CONFLICTS = frozenset({SHRUNK, TWO_ROOTS, FORK})
"""The codes of what one log can never do: two signed checkpoints contradict each other."""


def require_not_behind(earlier: Checkpoint, now: Checkpoint) -> None:
    """Check, without any tile, that `now` can follow `earlier`; both signatures were verified.

    1. One origin; the size has not become smaller.
    2. At one size, one root.

    Raises `EvidenceError`, with a code out of `CONFLICTS` for the last two.
    """
    if earlier.origin != now.origin:
        raise EvidenceError(
            "these are checkpoints of two logs",
            code="origin",
            expected=earlier.origin,
            observed=now.origin,
        )
    if now.size < earlier.size:
        raise EvidenceError(
            "the log has become shorter",
            code=SHRUNK,
            expected=f"at least the {earlier.size} entries it had signed",
            observed=f"{now.size}",
            hint="a cache may have answered with an old checkpoint: ask again; if it stays, "
            "entries were taken away or an old copy was put back",
        )
    if now.size == earlier.size and now.root != earlier.root:
        raise _two_histories(TWO_ROOTS, earlier)


def require_extends(resources: Resources, earlier: Checkpoint, now: Checkpoint) -> None:
    """Check that the log `now` is `earlier` with none or more entries added.

    1. `require_not_behind`.
    2. The tiles of `now` prove the root that its first `earlier.size` entries have: the
       consistency proof from that root to the one signed now holds.
    3. That root is the one signed before.

    Raises `EvidenceError`, with a code out of `CONFLICTS` if the log has signed two histories,
    and "consistency" if its tiles do not even lead to what it signs now.
    """
    require_not_behind(earlier, now)
    if earlier.size < now.size:
        _require_prefix(resources, earlier, now)


def _require_prefix(resources: Resources, earlier: Checkpoint, now: Checkpoint) -> None:
    def read(level: int, index: int, width: int) -> bytes:
        held = width_of(size=now.size, level=level, index=index)
        return resources.read_tile(level, index, held)[: width * HASH_BYTES]

    root = root_from_tiles(earlier.size, read)
    # The empty tree is a prefix of every tree and needs no proof; only its root is given.
    if earlier.size:
        verify_consistency(
            size1=earlier.size,
            root1=root,
            size2=now.size,
            root2=now.root,
            path=consistency_path_from_tiles(earlier.size, now.size, read),
        )
    if root != earlier.root:
        raise _two_histories(FORK, earlier)


def _two_histories(code: str, earlier: Checkpoint) -> EvidenceError:
    return EvidenceError(
        "the log has signed two histories",
        code=code,
        expected=f"the root it had signed over its first {earlier.size} entries",
        observed="another root over as many",
        hint="both checkpoints are signed by the log: together they prove it; keep both",
    )
