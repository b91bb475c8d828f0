"""Reading binary formats from front to back without ever running past their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError

if TYPE_CHECKING:
    import struct


class Cursor:
    """A position in `data`; every read beyond the end raises `MalformedError` with `code`."""

    __slots__ = ("_code", "_data", "_what", "position")

    def __init__(self, data: bytes, *, what: str, code: str) -> None:
        self._data = data
        self._what = what
        self._code = code
        self.position = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes and move behind them."""
        taken = self.peek(size)
        if len(taken) != size:
            raise MalformedError(
                f"{self._what} is cut short",
                code=self._code,
                expected=f"{self.position + size} bytes",
                observed=f"{len(self._data)} bytes",
            )
        self.position += size
        return taken

    def peek(self, size: int) -> bytes:
        """Return up to `size` bytes without moving."""
        return self._data[self.position : self.position + size]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Read the fields of `layout`."""
        return layout.unpack(self.take(layout.size))

    def rest(self) -> bytes:
        """Return everything behind the position without moving."""
        return self._data[self.position :]
