"""Call numbers: which call of its task a receipt is, and which receipt came before it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from attestation.encoding.digest import Digest


class TaskCounters:
    """The next call number and the latest receipt digest of each (key, task) of a boot.

    Callers choose task names, so the number of tasks is bounded: beyond `capacity` the tasks
    that were quiet for longest are forgotten, and a call of such a task would start at 0 again.
    A verifier sees that as a second first call, never as a longer task.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # Not a dict: finding its oldest entry walks over all that were deleted before it.
        self._tasks: OrderedDict[bytes, bytes] = OrderedDict()

    def next_call(self, sub: Digest, txn: str) -> tuple[int, Digest | None]:
        """Return the number of the task's next call and the digest of the one before."""
        entry = self._tasks.get(_name(sub, txn))
        if entry is None:
            return 0, None
        return int.from_bytes(entry[:8], "big") + 1, Digest(entry[8:])

    def note(self, sub: Digest, txn: str, call: int, digest: Digest) -> None:
        """Remember that this call of the task has this receipt."""
        name = _name(sub, txn)
        self._tasks.pop(name, None)
        if len(self._tasks) >= self._capacity:
            self._tasks.popitem(last=False)
        self._tasks[name] = call.to_bytes(8, "big") + digest.value


def _name(sub: Digest, txn: str) -> bytes:
    return hashlib.sha256(sub.value + txn.encode()).digest()
