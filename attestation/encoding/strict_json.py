"""Strict JSON (RFC 8259): one meaning or a refusal.

Parsers disagree on duplicate members, NaN, byte order marks, UTF-16, lone surrogates, deep
nesting and huge numbers.  Bytes on which two readers could disagree never pass this module,
so a hash over them commits to one meaning.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from attestation.encoding.counts import counted
from attestation.errors import MalformedError

JsonValue: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_WHITE_SPACE: Final = " \t\n\r"
_SHORT: Final = 64 * 1024
_PLAIN_DIGITS: Final = 18
_PLAIN_INTEGER: Final = 10**_PLAIN_DIGITS


class _Unclear(Enum):
    """What is no JSON value."""

    UNCLEAR = 1


_UNCLEAR: Final = _Unclear.UNCLEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """Bounds on one document: sizes in bytes, nesting in levels, members over all objects."""

    max_bytes: int = 1 << 24
    max_depth: int = 128
    max_members: int = 10_000
    max_number_chars: int = 128
    min_integer: int = -(1 << 63)
    max_integer: int = (1 << 64) - 1

    @property
    def leaves_plain_numbers(self) -> bool:
        """Whether numbers of at most eighteen characters are within the limits."""
        return (
            self.max_number_chars >= _PLAIN_DIGITS
            and self.min_integer <= -_PLAIN_INTEGER
            and self.max_integer >= _PLAIN_INTEGER
        )


DEFAULT_LIMITS = JsonLimits()


def parse_json(data: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> JsonValue:
    """Return the one value that `data` denotes.

    Guarantees: UTF-8 without byte order mark, no duplicate member at any depth, only finite
    numbers within the limits, no lone surrogate, nesting and member count within the limits,
    nothing but white space after the value.  Raises `MalformedError` whose `code` is one of
    size, encoding, syntax, duplicate_member, members, number, surrogate, depth; the message
    never quotes the document.
    """
    if len(data) > limits.max_bytes:
        raise MalformedError(
            "the JSON document is too large",
            code="size",
            expected=f"at most {limits.max_bytes} bytes",
            observed=f"{len(data)} bytes",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError(
            "the JSON document is not UTF-8",
            code="encoding",
            expected="text in UTF-8",
            observed=f"other bytes at byte {error.start}",
        ) from None
    if text.startswith("\ufeff"):
        raise MalformedError(
            "the JSON document starts with a byte order mark",
            code="encoding",
            expected="UTF-8 without one",
            observed="U+FEFF at byte 0",
        )
    value = _decode_plain(text, limits) if len(data) <= _SHORT else _UNCLEAR
    if value is _UNCLEAR:
        value = _decode(text, limits)
    if _may_be_deeper(data, limits.max_depth):
        _require_depth(value, limits.max_depth)
    # One character is found many times faster than three.
    if b"\\" in data and (b"\\ud" in data or b"\\uD" in data):
        _require_no_surrogate(value)
    return value


def parse_json_object(data: bytes, limits: JsonLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Like `parse_json`, and the value is an object."""
    value = parse_json(data, limits)
    if not isinstance(value, dict):
        raise MalformedError(
            "the JSON document is not an object",
            code="syntax",
            expected="an object",
            observed=type_name(value),
        )
    return value


def type_name(value: object) -> str:
    """Name the JSON type of a parsed value, for messages."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    names |= {int: "an integer", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


class _UnclearError(ValueError):
    """The document needs a closer look."""


def _plain_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _UnclearError
    return members


def _plain_integer(text: str) -> int:
    if len(text) > _PLAIN_DIGITS:
        raise _UnclearError
    return int(text)


def _plain_real(text: str) -> float:
    value = float(text)
    if len(text) > _PLAIN_DIGITS or not math.isfinite(value):
        raise _UnclearError
    return value


def _no_constant(_text: str) -> None:
    raise _UnclearError


_PLAIN_DECODER = json.JSONDecoder(
    object_pairs_hook=_plain_members,
    parse_int=_plain_integer,
    parse_float=_plain_real,
    parse_constant=_no_constant,
)


def _decode_plain(text: str, limits: JsonLimits) -> JsonValue | _Unclear:
    """Return the value of a document in which nothing is near a limit, else `_UNCLEAR`.

    It is a first look that spares almost all documents the second: it accepts nothing that
    `_decode` would refuse, and says nothing about why.  A member has a colon, so a document has
    no more of those than of these.
    """
    if not limits.leaves_plain_numbers or text.count(":") > limits.max_members:
        return _UNCLEAR
    stripped = text.strip(_WHITE_SPACE)
    try:
        value, end = _PLAIN_DECODER.raw_decode(stripped)
    except (ValueError, RecursionError):
        return _UNCLEAR
    return value if end == len(stripped) else _UNCLEAR


def _decode(text: str, limits: JsonLimits) -> JsonValue:
    hooks = _Hooks(limits)
    decoder = json.JSONDecoder(
        object_pairs_hook=hooks.members,
        parse_int=hooks.integer,
        parse_float=hooks.real,
        parse_constant=hooks.constant,
    )
    try:
        value: JsonValue = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedError(
            "the document is not JSON",
            code="syntax",
            expected="one JSON value (RFC 8259) and nothing after it",
            observed=f"{error.msg.removesuffix(' at')} at character {error.pos}",
        ) from None
    except RecursionError:
        raise _too_deep(limits.max_depth) from None
    return value


class _Hooks:
    """What the standard decoder calls for objects, numbers and constants."""

    def __init__(self, limits: JsonLimits) -> None:
        self._limits = limits
        self._members = 0
        self._objects = 0

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._members += len(pairs)
        self._objects += 1
        if self._members > self._limits.max_members:
            raise MalformedError(
                "the JSON document has too many members",
                code="members",
                expected=f"at most {self._limits.max_members}",
                observed=f"{self._members} where object {self._objects} ends",
            )
        result = dict(pairs)
        if len(result) != len(pairs):
            raise MalformedError(
                "the JSON document names a member twice in one object",
                code="duplicate_member",
                expected="every name once in an object",
                observed=f"{counted(len(result), 'name')} for {len(pairs)} members, in object "
                f"{self._objects} in the order of their ends",
                hint="remove the duplicate: readers disagree about which one counts",
            )
        return result

    def integer(self, text: str) -> int:
        self._require_length(text)
        value = int(text)
        if not self._limits.min_integer <= value <= self._limits.max_integer:
            raise MalformedError(
                "the JSON document has an integer beyond 64 bits",
                code="number",
                expected=f"{self._limits.min_integer} to {self._limits.max_integer}",
                observed=f"one of {len(text)} characters",
            )
        return value

    def real(self, text: str) -> float:
        self._require_length(text)
        value = float(text)
        if not math.isfinite(value):
            raise MalformedError(
                "the JSON document has a number beyond the range of a double",
                code="number",
                expected="numbers that a double can hold (IEEE 754 binary64)",
                observed=f"one of {len(text)} characters",
            )
        return value

    def constant(self, text: str) -> None:
        raise MalformedError(
            "the document is not JSON",
            code="syntax",
            expected="a finite number, true, false or null",
            observed=f"the constant {text}",
        )

    def _require_length(self, text: str) -> None:
        if len(text) > self._limits.max_number_chars:
            raise MalformedError(
                "the JSON document has a number that is too long",
                code="number",
                expected=f"at most {self._limits.max_number_chars} characters",
                observed=f"{len(text)} characters",
            )


def _too_deep(max_depth: int) -> MalformedError:
    return MalformedError(
        "the JSON document is nested too deeply",
        code="depth",
        expected=f"at most {max_depth} levels",
        observed="more",
    )


def _may_be_deeper(data: bytes, max_depth: int) -> bool:
    """Whether there are enough brackets for more levels; in a large document one is found many
    times faster than all are counted.
    """
    if len(data) <= _SHORT:
        return data.count(b"[") + data.count(b"{") > max_depth
    found = 0
    for bracket in (b"[", b"{"):
        at = data.find(bracket)
        while at >= 0 and found <= max_depth:
            found += 1
            at = data.find(bracket, at + 1)
    return found > max_depth


def _require_depth(value: JsonValue, max_depth: int) -> None:
    level: list[Any] = [value]
    for _ in range(max_depth):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise _too_deep(max_depth)


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return [child for child in value.values() if isinstance(child, (dict, list))]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, (dict, list))]
    return []


def _require_no_surrogate(value: JsonValue) -> None:
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, str):
            _require_scalar_values(item)


def _require_scalar_values(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise MalformedError(
            "the JSON document has a lone surrogate in a string",
            code="surrogate",
            expected="surrogates in pairs (RFC 8259, 8.2)",
            observed=f"one alone, character {error.start} of a string of {len(text)}",
        ) from None
