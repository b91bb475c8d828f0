"""The receipt inside an event stream: one comment block directly before the terminal frame.

    : receipt <compact JWS>
    : receipt-openings <base64url>
    <empty line>

Comments are invisible to every conforming reader (WHATWG HTML section 9.2), so only who looks
for the block sees it, and who removes exactly it has the body that the receipt commits to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from attestation.errors import EvidenceError
from attestation.receipt.sse import SseFramer

if TYPE_CHECKING:
    from attestation.receipt.commitments import Openings

_BLOCK: Final = re.compile(
    rb": receipt ([A-Za-z0-9_.-]{1,4096})\n: receipt-openings ([A-Za-z0-9_-]{1,4096})\n\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBlock:
    """A block as a client found it: where, how many bytes, and the texts inside."""

    offset: int
    length: int
    token: str
    openings: str


def render_block(token: str, openings: Openings) -> bytes:
    """Return the block's bytes for a receipt and its openings."""
    return (f": receipt {token}\n: receipt-openings {openings.encode_header()}\n\n").encode("ascii")


def remove_block(body: bytes, offset: int, block: bytes) -> bytes:
    """Return `body` without `block`, which stands at exactly `offset`.

    Raises `EvidenceError` (code "block") if it does not.
    """
    end = offset + len(block)
    if body[offset:end] != block:
        raise EvidenceError(
            "the in-band block is not where the receipt says it is",
            code="block",
            expected=f"the block of this receipt and its openings at byte {offset}",
            hint="keep the stream's bytes exactly as they came, block included",
        )
    return body[:offset] + body[end:]


def find_block(body: bytes) -> FoundBlock | None:
    """Return the block that stands directly before the last frame of a whole stream, or None.

    Nothing is verified: the token inside may be anybody's.
    """
    offset = body.rfind(b": receipt ")
    # Where there is none, offset -1 means the beginning, where there is none either.
    match = _BLOCK.match(body, offset)
    if match is None or not _starts_frame(body, offset) or not _is_one_frame(body[match.end() :]):
        return None
    return FoundBlock(
        offset=offset,
        length=match.end() - offset,
        token=match[1].decode("ascii"),
        openings=match[2].decode("ascii"),
    )


def _starts_frame(body: bytes, offset: int) -> bool:
    framer = SseFramer(max_frame_bytes=len(body))
    # One byte into the block: only it tells a CR that ends a line from the half of a CRLF.
    framer.feed(body[: offset + 1])
    return framer.finish() == body[offset : offset + 1]


def _is_one_frame(rest: bytes) -> bool:
    framer = SseFramer(max_frame_bytes=len(rest))
    frames = [*framer.feed(rest), framer.finish()]
    return sum(frame is not None for frame in frames) == 1
