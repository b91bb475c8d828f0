"""Random ids: of receipts, traces and spans."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

Draw = Callable[[int], str]
"""Returns so many lower-case hexadecimal digits that nobody can guess and nobody had before."""

_BLOCK_BYTES: Final = 4096


def drawn(digits: int) -> str:
    """Draw from the system's generator, with one system call each time; `digits` is even."""
    return secrets.token_hex(digits // 2)


class BlockDraw:
    """Draws many at once: no digit is given out twice.

    For one process that forks no other: a copy would give out the same.
    """

    __slots__ = ("_at", "_block")

    def __init__(self) -> None:
        self._block = ""
        self._at = 0

    def __call__(self, digits: int) -> str:
        """Return that many digits, which this draw forgets; at most 8192."""
        at, self._at = self._at, self._at + digits
        if self._at > len(self._block):
            self._block, at, self._at = secrets.token_hex(_BLOCK_BYTES), 0, digits
        return self._block[at : self._at]
