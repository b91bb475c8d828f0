"""Failures in a row, and whether they are all of one caller's requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Row:
    """Failures in a row, the last for `reason`.  `caller` is the first one's, None if no caller
    had a part in it; `shared` says that they are not all that one caller's.
    """

    count: int = 0
    reason: str = ""
    caller: bytes | None = None
    shared: bool = False

    def add(self, reason: str, caller: bytes | None) -> None:
        """Count one more failure, of a request of `caller`."""
        self.shared = self.shared or caller is None or (self.count > 0 and caller != self.caller)
        if not self.count:
            self.caller = caller
        self.count += 1
        self.reason = reason
