"""Call numbers: which call of its task a receipt is, and which receipt came before it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import NamedTuple

from attestation.encoding.digest import Digest

_new = tuple.__new__  # a named tuple by its own name takes three times as long


class Turn(NamedTuple):
    """A call of a task, counted from 0, and the digest of the receipt of the call before."""

    task: bytes
    call: int
    previous: Digest | None


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

    def next_call(self, sub: Digest, txn: str) -> Turn:
        """Return the task's next call."""
        name = hashlib.sha256(sub.value + txn.encode()).digest()
        entry = self._tasks.get(name)
        if entry is None:
            return _new(Turn, (name, 0, None))
        return _new(Turn, (name, int.from_bytes(entry[:8], "big") + 1, Digest(entry[8:])))

    def note(self, turn: Turn, digest: Digest) -> None:
        """Remember that this call of the task has this receipt."""
        self._tasks.pop(turn.task, None)
        if len(self._tasks) >= self._capacity:
            self._tasks.popitem(last=False)
        self._tasks[turn.task] = turn.call.to_bytes(8, "big") + digest.value
