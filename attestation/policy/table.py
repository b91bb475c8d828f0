"""Reading a TOML table whose keys are closed: like `Members`, with the key's path in messages."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from typing import TYPE_CHECKING, TypeVar

from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

_UINT64 = (1 << 64) - 1
# The last second of the year 9999: later times have no date.
_LAST_INSTANT = 253_402_300_799
_HEX_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,16}", re.ASCII)
_NAME = r"[\x21-\x7e][\x20-\x7e]{0,127}"
_TYPE_NAMES = {bool: "a boolean", int: "an integer", str: "a string", list: "an array"}

T = TypeVar("T")


class Table:
    """The keys of one TOML table; each is read once, `close` refuses what nobody read."""

    def __init__(self, values: dict[str, object], path: str = "") -> None:
        self._values = values
        self._path = path
        self._known: set[str] = set()

    def has(self, key: str) -> bool:
        """Say whether the key is present; asking makes the key known."""
        self._known.add(key)
        return key in self._values

    def name_of(self, key: str) -> str:
        """Return the key with its table in front, for messages."""
        return f"{self._path}.{key}" if self._path else key

    def raw(self, key: str) -> object:
        """Return the value of a key that must be present."""
        if not self.has(key):
            raise MalformedError(
                f"the policy lacks {self.name_of(key)}",
                code="policy_missing",
                expected=f'the key "{key}"',
            )
        return self._values[key]

    def text(self, key: str, *, pattern: str = r".{1,256}") -> str:
        """Return a string that matches `pattern` as a whole."""
        return read_text(self.raw(key), self.name_of(key), pattern)

    def flag(self, key: str) -> bool:
        """Return a boolean."""
        return _typed(self.raw(key), bool, self.name_of(key))

    def integer(self, key: str, *, minimum: int) -> int:
        """Return an integer from `minimum` to 2^31 - 1."""
        value = _typed(self.raw(key), int, self.name_of(key))
        if not minimum <= value < 1 << 31:
            raise refuse(self.name_of(key), f"an integer from {minimum} to {(1 << 31) - 1}")
        return value

    def table(self, key: str) -> Table:
        """Return a table; an absent one reads as empty."""
        if not self.has(key):
            return Table({}, self.name_of(key))
        return read_table(self._values[key], self.name_of(key))

    def items(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
        """Return what `read` makes of every item of an array that must not be empty."""
        path = self.name_of(key)
        values = _typed(self.raw(key), list, path)
        if not values:
            raise MalformedError(
                f"{path} is an empty list",
                code="policy_empty",
                expected="at least one item",
                hint="an empty list would accept nothing; leave the key out to get its default",
            )
        return tuple(read(value, f"{path}[{index}]") for index, value in enumerate(values))

    def optional(self, key: str, read: Callable[[object, str], T]) -> T | None:
        """Return what `read` makes of the value and its path, None if the key is absent."""
        return read(self.raw(key), self.name_of(key)) if self.has(key) else None

    def optional_items(self, key: str, read: Callable[[object, str], T]) -> tuple[T, ...] | None:
        """Like `items`, None if the key is absent."""
        return self.items(key, read) if self.has(key) else None

    def close(self) -> None:
        """Refuse keys that nobody asked about, naming a known one that is close."""
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, sorted(self._known), n=1)
                raise MalformedError(
                    f"the policy has an unknown key {ascii(self.name_of(key))[1:-1]}",
                    code="policy_unknown",
                    expected="one of " + ", ".join(sorted(self._known)),
                    hint=f'did you mean "{close[0]}"?' if close else "",
                )


def read_table(value: object, path: str) -> Table:
    """Return a reader of a TOML table."""
    if not isinstance(value, dict):
        raise refuse(path, "a table", value)
    return Table(value, path)


def read_text(value: object, path: str, pattern: str) -> str:
    """Return a string that matches `pattern` as a whole."""
    text = _typed(value, str, path)
    if not re.fullmatch(pattern, text):
        raise refuse(path, f"a string of the form {pattern}")
    return text


def read_name(value: object, path: str) -> str:
    """Return printable ASCII of at most 128 characters that does not begin with a space."""
    return read_text(value, path, _NAME)


def hex_reader(size: int, *, instead: str = "") -> Callable[[object, str], bytes]:
    """Return a reader of `size` bytes written in hexadecimal.

    `instead` says in the refusal what else the caller would have taken.
    """

    def read(value: object, path: str) -> bytes:
        text = _typed(value, str, path)
        if not re.fullmatch(rf"[0-9a-fA-F]{{{2 * size}}}", text):
            error = refuse(path, f"{2 * size} hexadecimal characters{instead}")
            error.observed = f"{len(text)} characters"
            raise error
        return bytes.fromhex(text)

    return read


def read_uint64(value: object, path: str) -> int:
    """Return an unsigned 64-bit integer, given as one or as text like "0x10000000"."""
    if isinstance(value, str) and _HEX_NUMBER.fullmatch(value):
        return int(value, 16)
    if type(value) is int and 0 <= value <= _UINT64:
        return value
    raise refuse(path, 'a 64-bit integer or text like "0x10000000"', value)


def read_instant(value: object, path: str) -> int:
    """Return Unix seconds, from such a number, a date (its first second, UTC) or a date-time."""
    if type(value) is int and 0 <= value <= _LAST_INSTANT:
        return value
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise refuse(path, "a date-time with its offset, like 2027-01-01T00:00:00Z")
        return _in_range(int(value.timestamp()), path)
    if isinstance(value, dt.date):
        midnight = dt.datetime.combine(value, dt.time(), dt.UTC)
        return _in_range(int(midnight.timestamp()), path)
    raise refuse(path, "a date, a date-time with offset, or Unix seconds", value)


def _in_range(seconds: int, path: str) -> int:
    """Refuse what lies outside 1970-9999 in UTC: an offset can lead there."""
    if not 0 <= seconds <= _LAST_INSTANT:
        raise refuse(path, "an instant in the years 1970 to 9999, UTC")
    return seconds


def refuse(path: str, expected: str, value: object = None) -> MalformedError:
    """Return the error for a value of the wrong form."""
    observed = "" if value is None else _TYPE_NAMES.get(type(value), "something else")
    return MalformedError(
        f"the policy's {path} is not usable",
        code="policy_value",
        expected=expected,
        observed=observed,
    )


def _typed(value: object, kind: type[T], path: str) -> T:
    # bool is a subclass of int, so only the exact type tells them apart.
    if type(value) is not kind:
        raise refuse(path, _TYPE_NAMES[kind], value)
    return value
