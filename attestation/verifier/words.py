"""How results write values: short enough to read, exact enough to compare."""

from __future__ import annotations

import datetime as dt

_LAST_INSTANT = 253_402_300_799


def short(value: bytes) -> str:
    """Return the first 16 hex digits of `value`; "all zero" for zeroes."""
    if not any(value):
        return "all zero"
    text = value.hex()
    return text if len(text) <= 16 else f"{text[:16]}…"


def instant(seconds: int) -> str:
    """Return an instant as RFC 3339 in UTC, or the bare number outside the years 1970-9999."""
    if not 0 <= seconds <= _LAST_INSTANT:
        return f"{seconds} s"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
