"""The stand-in's tokenizer: four bytes of UTF-8 a token, so that it is exact and reversible.

A token id is the piece's bytes behind a leading 1 byte, read as a big-endian integer; that needs
no vocabulary and gives token counts of a believable size.
"""

from __future__ import annotations

PIECE_BYTES = 4


def encode(text: str) -> list[int]:
    """The token ids of `text` (lone surrogates become U+FFFD)."""
    data = text.encode("utf-8", "replace")
    pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    return [int.from_bytes(b"\x01" + piece, "big") for piece in pieces]


def decode(ids: list[int]) -> str:
    """The text of token ids; ValueError for an id no text has."""
    return b"".join(_piece(token) for token in ids).decode("utf-8", "replace")


def count(text: str) -> int:
    """How many tokens `text` has."""
    return len(encode(text))


def _piece(token: int) -> bytes:
    size = (token.bit_length() + 7) // 8
    data = token.to_bytes(size, "big")
    if not 2 <= size <= PIECE_BYTES + 1 or data[0] != 1:
        raise ValueError("no such token")
    return data[1:]
