"""Reading binary formats by position, never outside of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attestation.errors import MalformedError

if TYPE_CHECKING:
    import struct


class Window:
    """`data` read by offset; whatever lies outside raises `MalformedError` with `code`.

    `what` names the data in messages, such as "the firmware".
    """

    __slots__ = ("code", "data", "what")

    def __init__(self, data: bytes, *, what: str, code: str) -> None:
        self.data = data
        self.what = what
        self.code = code

    def take(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes at `offset`."""
        self.require(offset, size)
        return self.data[offset : offset + size]

    def require(self, offset: int, size: int) -> None:
        """Refuse a range that is not all within the data."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise self.refusal(
                f"{size} bytes at offset {offset:#x}", f"{len(self.data)} bytes in all"
            )

    def unpack(self, layout: struct.Struct, offset: int) -> tuple[Any, ...]:
        """Return the fields of `layout` at `offset`."""
        return layout.unpack(self.take(offset, layout.size))

    def refusal(self, expected: str, observed: str, hint: str = "") -> MalformedError:
        """Return the error for data that is not what its format asks for."""
        return MalformedError(
            f"{self.what} does not parse",
            code=self.code,
            expected=expected,
            observed=observed,
            hint=hint,
        )
