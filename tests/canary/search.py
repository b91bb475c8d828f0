"""Looking for a token, or a secret, in everything that a gateway leaves behind."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def _token() -> str:
    # Letters first: it has to pass as a name, a label, a header value and a host name.
    return "zq" + secrets.token_hex(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Two tokens of one run.

    `hidden` goes wherever a caller or an engine may write what nobody else shall read: it must
    be found nowhere.  `recorded` goes into the few fields that a receipt records by design where
    their text fits the receipts' alphabet (model id, task id, nonce, finish reason, media type):
    it must be found in the log, and nowhere else.
    """

    hidden: str = field(default_factory=_token)
    recorded: str = field(default_factory=_token)


def spellings(text: bytes) -> dict[str, bytes]:
    """The ways in which `text` may stand inside other bytes, lower case where case is free."""
    found = {
        "as it is": text.lower(),
        "hexadecimal": text.hex().encode(),
        "UTF-16": text.decode("latin-1").encode("utf-16-le").lower(),
        "percent-encoded": "".join(f"%{byte:02x}" for byte in text).encode(),
    }
    for shift in range(3):
        # Inside longer base64 the text starts at one of three places of a group of four; the
        # characters at both ends also depend on its neighbours.
        whole = base64.b64encode(bytes(shift) + text + bytes(2))
        start, end = -(-shift * 8 // 6), (shift + len(text)) * 8 // 6
        found[f"base64 at {shift}"] = whole[start:end]
        found[f"base64url at {shift}"] = whole[start:end].translate(bytes.maketrans(b"+/", b"-_"))
    return found


def hits(secret: bytes, places: Mapping[str, bytes]) -> list[str]:
    """Where `secret` stands in any spelling: `place (spelling)`."""
    wanted = spellings(secret)
    found = []
    for place, data in places.items():
        small = data.lower()
        for spelling, needle in wanted.items():
            where = data if spelling.startswith("base64") else small
            if needle in where:
                found.append(f"{place} ({spelling})")
    return found


def files_below(folder: Path, *, leave_out: Iterable[Path] = ()) -> dict[str, bytes]:
    """Every file below a folder, and every name, by path."""
    left_out = set(leave_out)
    return {
        str(path.relative_to(folder)): str(path.relative_to(folder)).encode() + b"\n" + data
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in left_out
        for data in (path.read_bytes(),)
    }
