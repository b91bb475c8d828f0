"""Reading an object with closed members: every member is asked for, none is left over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from attestation.encoding import base64url
from attestation.encoding.digest import Digest
from attestation.encoding.strict_json import JsonValue, type_name
from attestation.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_SAFE_INTEGER = (1 << 53) - 1
_NAMES_SHOWN = 5

T = TypeVar("T")


class Members:
    """The members of one parsed JSON object, read by name and type.

    Every reader raises `MalformedError` if the member is absent or of another type (code
    "missing_member", "member_type" or "member_value") and marks it as read; `close` then
    refuses what nobody read.  Messages name members, never their values.
    """

    __slots__ = ("_members", "_read", "_what")

    def __init__(self, value: JsonValue, what: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(
                f"{what} is not an object",
                code="member_type",
                expected="an object",
                observed=type_name(value),
            )
        self._members: dict[str, Any] = value
        self._what = what
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """Say whether the member is present; it does not count as read."""
        return name in self._members

    def is_null(self, name: str) -> bool:
        """Say whether the member is present and null; if it is, it counts as read."""
        if name not in self._members or self._members[name] is not None:
            return False
        self._read.add(name)
        return True

    def raw(self, name: str) -> JsonValue:
        """Return the member, whatever its type."""
        if name not in self._members:
            raise MalformedError(
                f"{self._what} lacks a member",
                code="missing_member",
                expected=f'the member "{name}"',
            )
        self._read.add(name)
        value: JsonValue = self._members[name]
        return value

    def text(
        self,
        name: str,
        *,
        pattern: re.Pattern[str] | str | None = None,
        max_chars: int = 256,
        choices: Collection[str] | None = None,
    ) -> str:
        """Return a string of at most `max_chars` characters.

        `pattern` must match all of it; `choices` lists the only strings accepted.
        """
        value = self._typed(name, str, "a string")
        if len(value) > max_chars:
            raise self._refusal(name, f"at most {max_chars} characters", f"{len(value)} characters")
        if choices is not None and value not in choices:
            raise self._refusal(name, "one of " + ", ".join(sorted(choices)), "another string")
        if pattern is not None and not re.compile(pattern).fullmatch(value):
            shape = re.compile(pattern).pattern
            raise self._refusal(name, f"a string of the form {shape}", "another string")
        return value

    def integer(self, name: str, *, minimum: int = 0, maximum: int = _MAX_SAFE_INTEGER) -> int:
        """Return an integer from `minimum` to `maximum`; a boolean is not one."""
        value = self._typed(name, int, "an integer")
        if not minimum <= value <= maximum:
            raise self._refusal(name, f"an integer from {minimum} to {maximum}", f"{value}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        return self._typed(name, bool, "a boolean")

    def digest_hex(self, name: str) -> Digest:
        """Return a SHA-256 digest written as 64 lower-case hexadecimal characters."""
        return Digest.from_hex(self._typed(name, str, "a string"), what=self._path(name))

    def digest_base64url(self, name: str) -> Digest:
        """Return a SHA-256 digest written as 43 characters of base64url."""
        return Digest.from_base64url(self._typed(name, str, "a string"), what=self._path(name))

    def bytes_base64url(
        self, name: str, *, length: int | None = None, max_bytes: int = 1 << 16
    ) -> bytes:
        """Return bytes written as canonical base64url, `length` or at most `max_bytes` of them."""
        text = self._typed(name, str, "a string")
        data = base64url.decode(text, what=self._path(name), length=length)
        if length is None and len(data) > max_bytes:
            raise self._refusal(name, f"at most {max_bytes} bytes", f"{len(data)} bytes")
        return data

    def object(self, name: str) -> Members:
        """Return a reader of an object; the caller closes it too."""
        return Members(self.raw(name), self._path(name))

    def array(self, name: str, *, max_items: int = 10_000) -> list[Any]:
        """Return a list of at most `max_items` items."""
        value = self._typed(name, list, "an array")
        if len(value) > max_items:
            raise self._refusal(name, f"at most {max_items} items", f"{len(value)} items")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object whose member names are data rather than a schema."""
        return self._typed(name, dict, "an object")

    def close(self) -> None:
        """Refuse members that nobody read (code "unknown_member")."""
        unread = sorted(self._members.keys() - self._read)
        if not unread:
            return
        shown = ", ".join(ascii(name[:64]) for name in unread[:_NAMES_SHOWN])
        more = f" and {len(unread) - _NAMES_SHOWN} more" if len(unread) > _NAMES_SHOWN else ""
        raise MalformedError(
            f"{self._what} has members that its format does not know",
            code="unknown_member",
            observed=shown + more,
            hint="a newer format needs a newer verifier",
        )

    def _typed(self, name: str, kind: type[T], described: str) -> T:
        value = self._members.get(name)
        # bool is a subclass of int, so only the exact type tells them apart.
        if type(value) is kind:
            self._read.add(name)
            return value
        raise MalformedError(
            f"{self._path(name)} has the wrong type",
            code="member_type",
            expected=described,
            observed=type_name(self.raw(name)),
        )

    def _refusal(self, name: str, expected: str, observed: str) -> MalformedError:
        return MalformedError(
            f"{self._path(name)} is out of bounds",
            code="member_value",
            expected=expected,
            observed=observed,
        )

    def _path(self, name: str) -> str:
        return f"{self._what}.{name}"
