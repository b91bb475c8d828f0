"""Do the leaves of an ended log still give the roots that its checkpoints signed?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.errors import AttestationError
from gateway.notary.log.walk import BootStatus, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.notary.log.evidence import FolderEvidence, SignedNote
    from gateway.notary.log.tree import TileTree

_ROOTS_KEPT = 1024


class RootCheck:
    """Recomputes the tree beside a walk and compares it with every checkpoint it meets.

    Leaves are held back until a checkpoint covers them, so that a checkpoint over an earlier
    size than the present one finds its root.
    """

    def __init__(
        self, evidence: FolderEvidence, tree: TileTree, claimed: Iterable[SignedNote]
    ) -> None:
        """`claimed` are checkpoints known from elsewhere: the static files, a successor."""
        self._evidence = evidence
        self._tree = tree
        self._claimed = sorted(
            (note.checkpoint for note in claimed), key=lambda checkpoint: checkpoint.size
        )
        self._waiting: list[bytes] = []
        self._roots: dict[int, bytes] = {}
        self.last: SignedNote | None = None
        self.finding: Finding | None = None

    def leaf(self, entry: bytes) -> None:
        """Take the next leaf's entry."""
        self._waiting.append(entry)

    def note(self, text: str, leaves: int) -> None:
        """Compare a checkpoint with the tree of its size."""
        try:
            signed = self._evidence.verify_note(text)
        except AttestationError:
            self._find(BootStatus.FOREIGN, "a checkpoint is not signed by this log's key")
            return
        size = signed.checkpoint.size
        if size > leaves:
            self._find(BootStatus.DAMAGED, f"a checkpoint over {size} leaves stands before them")
        else:
            self.compare(size, signed.checkpoint.root)
            self.last = signed

    def compare(self, size: int, root: bytes) -> None:
        """Note a finding if the tree of `size` leaves has another root."""
        self._grow(size)
        if self._roots.get(size, root) != root:
            self._find(
                BootStatus.DAMAGED, f"the leaves do not give the signed root over {size} of them"
            )

    def finish(self) -> None:
        """Compare what the leaves after the last checkpoint are claimed to be."""
        self._grow(self._tree.size + len(self._waiting))

    def _grow(self, size: int) -> None:
        while self._claimed and self._claimed[0].size <= size:
            claimed = self._claimed.pop(0)
            self._append_up_to(claimed.size)
            if self._roots.get(claimed.size, claimed.root) != claimed.root:
                self._find(
                    BootStatus.DAMAGED,
                    f"the leaves do not give the signed root over {claimed.size} of them",
                )
        self._append_up_to(size)

    def _append_up_to(self, size: int) -> None:
        count = size - self._tree.size
        if count < 0:
            return
        for entry in self._waiting[:count]:
            self._tree.append(entry)
        del self._waiting[:count]
        for tile in self._tree.unexported():
            self._tree.release(tile)
        if self._tree.size == size:
            self._roots[size] = self._tree.root
        while len(self._roots) > _ROOTS_KEPT:
            del self._roots[next(iter(self._roots))]

    def _find(self, status: BootStatus, reason: str) -> None:
        if self.finding is None:
            self.finding = Finding(status=status, reason=reason)
