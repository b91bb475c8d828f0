"""The alphabets and bounds of what claims quote.

Everything that comes from a caller, an engine or a configuration fits one of these, so that a
receipt stays within its 4 KiB and no report or log line needs escaping.
"""

from __future__ import annotations

import re
from typing import Final

CALLER_TEXT: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}", re.ASCII)
"""Caller-chosen text: model names and task identifiers."""

NAME: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,48}", re.ASCII)
"""The gateway's name, which is also its log's.  No "+": a verifier key is split at it."""

LOG_ORIGIN: Final = re.compile(rf"{NAME.pattern}/[0-9a-f]{{16}}", re.ASCII)

LABEL: Final = re.compile(r"[A-Za-z0-9._:/@-]{1,24}", re.ASCII)
"""Names of quote providers and upstreams."""

ENGINE: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,40}", re.ASCII)
"""Name and version of an engine, such as "vllm/0.32.0"."""

CODE: Final = re.compile(r"[a-z0-9][a-z0-9_.:/@+-]{0,31}", re.ASCII)
"""Codes of decisions, rewrites and attempts."""

REASON: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,32}", re.ASCII)
"""Finish reasons as an engine wrote them."""

CONTENT_TYPE: Final = re.compile(r"[ !#-\[\]-~]{1,40}", re.ASCII)
"""Media types: printable ASCII without quotation mark and backslash."""

PATH: Final = re.compile(r"/[A-Za-z0-9._/-]{0,31}", re.ASCII)
"""Paths of inference routes."""

METHOD: Final = re.compile(r"POST", re.ASCII)
RECEIPT_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
SPAN: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
NONCE: Final = re.compile(r"[A-Za-z0-9_-]{8,88}", re.ASCII)

MAX_INTEGER: Final = (1 << 53) - 1
MAX_PARENTS: Final = 16
MAX_REASONS: Final = 3
MAX_ATTEMPTS: Final = 3
MAX_SPLICES: Final = 2
MAX_MODS: Final = 4


def fitting(pattern: re.Pattern[str], text: str | None) -> str | None:
    """Return `text` if all of it fits `pattern`, else None."""
    return text if text is not None and pattern.fullmatch(text) else None
