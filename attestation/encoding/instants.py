"""Instants for people: RFC 3339, section 5.6, in UTC and whole seconds."""

from __future__ import annotations

import datetime as dt
from typing import Final

_LAST_INSTANT: Final = 253_402_300_799


def is_instant(seconds: int) -> bool:
    """Say whether `seconds` (Unix) lies in the years 1970-9999."""
    return 0 <= seconds <= _LAST_INSTANT


def instant(seconds: int) -> str:
    """Return an instant as RFC 3339 in UTC, or the bare number outside the years 1970-9999."""
    if not is_instant(seconds):
        return f"{seconds} s"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
