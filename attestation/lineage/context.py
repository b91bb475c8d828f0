"""The lineage a caller declares: trace, task and parent receipts, from request headers.

Trace context is W3C Trace Context (`traceparent`, level 2).  A malformed `traceparent` starts a
new trace and is never an error; malformed task or parent text is the caller's mistake.
"""

from __future__ import annotations

import re
from typing import Final

from attestation.encoding.making import maker_of
from attestation.errors import MalformedError
from attestation.receipt.outcome import LineageContext
from attestation.receipt.text import CALLER_TEXT, MAX_PARENTS

__all__ = ["LineageContext", "lineage_from_headers", "parse_traceparent"]

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?",
    re.ASCII,
)


_lineage = maker_of(LineageContext)


def parse_traceparent(text: str | None) -> tuple[str, str] | None:
    """Return trace id and parent span id, or None where there is no such thing.

    Version 00 has exactly four fields; a later version may have more after them.
    """
    match = None if text is None else _TRACEPARENT.fullmatch(text)
    if match is None or (match[1] == "00" and match[4] is not None):
        return None
    return match[2], match[3]


def lineage_from_headers(
    traceparent: str | None,
    task_id: str | None,
    parents: str | None,
    *,
    random_trace: str,
    random_span: str,
    repeated: bool = False,
) -> LineageContext:
    """Return what the headers declare; None is a header that was not sent.

    `parents` is a comma-separated list (several header lines are joined by commas first).
    `random_trace` (32 hex digits) and `random_span` (16) fill what the caller leaves open;
    `repeated` is recorded as it is.
    Raises `MalformedError`, code "task_id" or "parents".
    """
    declared = parse_traceparent(traceparent)
    trace, parent_span = declared if declared is not None else (random_trace, None)
    if task_id is not None and not CALLER_TEXT.fullmatch(task_id):
        raise _refusal("task_id", f"X-Task-Id of the form {CALLER_TEXT.pattern}")
    return _lineage(
        txn=trace if task_id is None else task_id,
        span=random_span,
        parent_span=parent_span,
        parents=_parents(parents) if parents else (),
        repeated=repeated,
    )


def _parents(listed: str) -> tuple[str, ...]:
    stripped = (item.strip(" \t") for item in listed.split(","))
    parents = tuple(dict.fromkeys(item for item in stripped if item))
    if len(parents) > MAX_PARENTS:
        raise _refusal("parents", f"at most {MAX_PARENTS} entries in X-Receipt-Parents")
    if not all(CALLER_TEXT.fullmatch(parent) for parent in parents):
        raise _refusal("parents", f"X-Receipt-Parents of the form {CALLER_TEXT.pattern}, …")
    return parents


def _refusal(code: str, expected: str) -> MalformedError:
    return MalformedError("a lineage header is malformed", code=code, expected=expected)
