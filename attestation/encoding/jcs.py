"""JSON Canonicalization Scheme (RFC 8785): the one byte form of a JSON value.

Everything that is hashed or signed here uses the restricted form: no floats, and integers
below 2^53 in magnitude, so that every JSON implementation writes the same digits.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from attestation.encoding.strict_json import (
    DEFAULT_LIMITS,
    JsonLimits,
    JsonValue,
    parse_json,
    type_name,
)
from attestation.errors import MalformedError

MAX_SAFE_INTEGER = (1 << 53) - 1

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def canonicalize(value: JsonValue) -> bytes:
    """Return the UTF-8 bytes of `value` in the restricted canonical form.

    Accepts null, booleans, strings without lone surrogates, integers below 2^53 in magnitude,
    lists, and dicts with string keys.  Anything else raises `MalformedError` (code "jcs").
    """
    try:
        return _dump(_ordered(value)).encode("utf-8")
    except UnicodeEncodeError:
        raise _lone_surrogate() from None
    except RecursionError:
        raise _too_deep() from None


def canonicalize_full(value: JsonValue) -> bytes:
    """Like `canonicalize`, with floats and integers of any size in ECMAScript's number form.

    A number is what RFC 8785 section 3.2.2.3 makes of the double nearest to it.  Nothing that
    is signed here uses this form: it exists for exchange with other implementations.
    """
    try:
        return _write(value).encode("utf-8")
    except UnicodeEncodeError:
        raise _lone_surrogate() from None
    except RecursionError:
        raise _too_deep() from None


def parse_canonical(
    data: bytes, limits: JsonLimits = DEFAULT_LIMITS, *, what: str = "the document"
) -> JsonValue:
    """Return the value of `data`, whose bytes are the canonical form of that very value.

    Raises `MalformedError`: the codes of `parse_json`, "jcs" for a value outside the restricted
    form, or "not_canonical".
    """
    value = parse_json(data, limits)
    if canonicalize(value) != data:
        raise MalformedError(
            f"{what} is not canonical JSON",
            code="not_canonical",
            expected="exactly the RFC 8785 form of its own value",
            hint="sort the members, drop white space and use the shortest escapes",
        )
    return value


def _ordered(value: object) -> object:
    """Return a copy with members in canonical order, having refused what has no such form."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise MalformedError(
                "an integer is too large for canonical JSON",
                code="jcs",
                expected="a magnitude below 2^53",
            )
        return value
    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in _member_order(value)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    raise MalformedError(
        "a value has no restricted canonical form",
        code="jcs",
        expected="null, a boolean, an integer, a string, a list or an object",
        observed=type_name(value),
    )


def _member_order(members: dict[Any, Any]) -> list[str]:
    """Sort by UTF-16 code units (RFC 8785 section 3.2.3), which is not code point order."""
    try:
        # For ASCII the two orders agree, and the plain sort costs a fraction.
        plain = "".join(members).isascii()
    except TypeError:
        odd = next(name for name in members if not isinstance(name, str))
        raise MalformedError(
            "a member name is not a string", code="jcs", observed=type_name(odd)
        ) from None
    return sorted(members) if plain else sorted(members, key=lambda name: name.encode("utf-16-be"))


def _write(value: object) -> str:
    if value is None or isinstance(value, (str, bool)):
        return _dump(value)
    if isinstance(value, (int, float)):
        return _ecmascript_number(value)
    if isinstance(value, dict):
        members = (f"{_dump(name)}:{_write(value[name])}" for name in _member_order(value))
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_write(item) for item in value) + "]"
    raise MalformedError("a value has no canonical form", code="jcs", observed=type_name(value))


def _ecmascript_number(value: float) -> str:
    """ECMA-262 Number::toString: the shortest digits that read back as the same double."""
    try:
        number = Decimal(repr(float(value)))
    except OverflowError:
        number = Decimal("Infinity")
    if not number.is_finite():
        raise MalformedError(
            "a number has no canonical form", code="jcs", expected="a finite double"
        )
    if not number:
        return "0"
    # Not Decimal.normalize(): it rounds to the precision of the caller's decimal context.
    sign, digits, exponent = number.as_tuple()
    written = "".join(map(str, digits))
    shortest = written.rstrip("0")
    text = _place_point(shortest, int(exponent) + len(written) - len(shortest))
    return "-" + text if sign else text


def _place_point(digits: str, exponent: int) -> str:
    point = len(digits) + exponent
    if len(digits) <= point <= 21:
        return digits + "0" * exponent
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def _lone_surrogate() -> MalformedError:
    return MalformedError("a string has a lone surrogate", code="jcs")


def _too_deep() -> MalformedError:
    return MalformedError("a value is nested too deeply", code="jcs")
