"""C2SP checkpoints (c2sp.org/tlog-checkpoint): origin, size and root of a log, as note text.

    example.com/log
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

Extension lines are refused: nothing audits them, and they would give one tree many texts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from attestation.encoding import base64std
from attestation.errors import MalformedError
from attestation.merkle.tree import HASH_BYTES, MAX_SIZE

MAX_ORIGIN_CHARS = 256
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_ORIGIN = re.compile(r"[^\x00-\x1f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a log: `origin` names it, `root` (32 bytes) commits to its `size` entries."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not _ORIGIN.fullmatch(self.origin) or len(self.origin) > MAX_ORIGIN_CHARS:
            raise _malformed("an origin of one line")
        if not 0 <= self.size <= MAX_SIZE:
            raise _malformed("a size below 2^64")
        if len(self.root) != HASH_BYTES:
            raise _malformed(f"a root of {HASH_BYTES} bytes")

    @property
    def text(self) -> str:
        """The three lines that the log signs."""
        return f"{self.origin}\n{self.size}\n{base64std.encode(self.root)}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint whose `text` this is, without its signatures.

    Exactly three lines; the size has no leading zero and is below 2^64; the root is canonical
    base64.  Raises `MalformedError`.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise _malformed("exactly three lines: origin, size, root")
    origin, size, root = lines[:3]
    return Checkpoint(
        origin=origin,
        size=parse_decimal(size, what="the checkpoint's size"),
        root=base64std.decode(root, what="the checkpoint's root", length=HASH_BYTES),
    )


def parse_decimal(text: str, *, what: str) -> int:
    """Return an integer below 2^64 from ASCII digits without leading zeroes."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise MalformedError(
            f"{what} is not a decimal number",
            code="decimal",
            expected="0 to 2^64 - 1 without sign and leading zeroes",
        )
    return int(text)


def _malformed(expected: str) -> MalformedError:
    return MalformedError("the checkpoint is malformed", code="checkpoint", expected=expected)
