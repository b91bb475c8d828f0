"""Writing TOML 1.0: just enough for policies, and every value reads back as it was."""

from __future__ import annotations

import datetime as dt
import re

from attestation.encoding.printable import printable
from attestation.errors import UsageError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')


def toml_value(value: object) -> str:
    """Return a boolean, an integer, a text, an instant, or arrays and tables of them, on one line.

    An instant is a `datetime` with its offset, written in UTC to the second; tables are inline
    ones.  Raises `UsageError` for what TOML has no form for here: another type, or a text with
    half a surrogate pair.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return "{" + ", ".join(toml_pair(key, item) for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise UsageError(
        "this value has no form in a policy",
        code="toml",
        expected="a boolean, an integer, a text, an instant, an array or a table",
        observed=type(value).__name__,
    )


def toml_pair(key: str, value: object) -> str:
    """Return `key = value` on one line, the key quoted where it has to be."""
    name = key if _BARE_KEY.fullmatch(key) else _text(key)
    return f"{name} = {toml_value(value)}"


def toml_comment(text: str) -> str:
    """Return `text` as one line of comment, whatever is in it."""
    return f"# {printable(text)}"


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            "this text cannot be written", code="toml", expected="whole Unicode characters"
        ) from None
    return '"' + _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", value) + '"'
