"""Reading JSON that an engine wrote, for facts: odd documents give no facts, never an error.

The bytes were hashed and passed on as they are; nothing that is read here changes them.
"""

from __future__ import annotations

import json
from typing import Any


class _DuplicateMemberError(ValueError):
    """Two readers could disagree about the document, so it gives no facts."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateMemberError
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_members)
_WHITE_SPACE = " \t\n\r"


def parse_engine_object(data: bytes) -> dict[str, Any] | None:
    """Return the object that `data` denotes, or None if it does not plainly denote one."""
    try:
        text = data.decode("utf-8").strip(_WHITE_SPACE)
        document, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and end == len(text) else None
