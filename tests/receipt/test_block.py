"""The in-band block is exactly where the receipt says, and comes out without a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError
from attestation.receipt.block import find_block, remove_block, render_block
from attestation.receipt.commitments import Openings
from attestation.receipt.sse import parse_event
from tests.receipt.support import CHAT_FRAME, DONE

OPENINGS = Openings(keys={"req": bytes(32), "res": bytes(32)})
TOKEN = "eyJh.eyJi.c2ln"
BLOCK = render_block(TOKEN, OPENINGS)


def test_block_is_two_comment_lines_and_a_blank_one() -> None:
    text = BLOCK.decode()
    header = OPENINGS.encode_header()
    assert text == f": receipt {TOKEN}\n: receipt-openings {header}\n\n"
    assert parse_event(BLOCK).data is None


@pytest.mark.parametrize("terminal", [DONE, b"data: [DONE]", b"data: [DONE]\r\r", b"event: x\n\n"])
@pytest.mark.parametrize("before", [b"", CHAT_FRAME, CHAT_FRAME * 3, b"\xef\xbb\xbf"])
def test_block_is_found_and_removed(before: bytes, terminal: bytes) -> None:
    body = before + BLOCK + terminal
    found = find_block(body)
    assert found is not None
    assert (found.offset, found.length) == (len(before), len(BLOCK))
    assert (found.token, found.openings) == (TOKEN, OPENINGS.encode_header())
    assert remove_block(body, found.offset, BLOCK) == before + terminal


@pytest.mark.parametrize(
    "body",
    [
        b"",
        CHAT_FRAME + DONE,
        BLOCK,
        CHAT_FRAME + BLOCK,
        CHAT_FRAME + BLOCK + CHAT_FRAME + DONE,
        CHAT_FRAME + BLOCK.replace(b"\n: ", b"\n\n: ") + DONE,
        CHAT_FRAME + BLOCK[:-1] + DONE,
        CHAT_FRAME + BLOCK.replace(b"eyJh", b"ey!h") + DONE,
        CHAT_FRAME[:-1] + BLOCK + DONE,
        b"data: x" + BLOCK + DONE,
        CHAT_FRAME + BLOCK + b"\n" + DONE,
    ],
)
def test_anything_else_is_not_a_block(body: bytes) -> None:
    assert find_block(body) is None


def test_last_block_counts() -> None:
    first = render_block("a.b.c", OPENINGS)
    found = find_block(CHAT_FRAME + first + CHAT_FRAME + BLOCK + DONE)
    assert found is not None
    assert found.token == TOKEN


@pytest.mark.parametrize("shift", [-1, 1, len(BLOCK), 10_000])
def test_block_at_another_offset_is_not_removed(shift: int) -> None:
    with pytest.raises(EvidenceError) as rejected:
        remove_block(CHAT_FRAME + BLOCK + DONE, len(CHAT_FRAME) + shift, BLOCK)
    assert rejected.value.code == "block"


def test_block_of_another_receipt_is_not_removed() -> None:
    other = render_block("x.y.z", OPENINGS)
    with pytest.raises(EvidenceError):
        remove_block(CHAT_FRAME + BLOCK + DONE, len(CHAT_FRAME), other)


@given(st.binary(max_size=200))
def test_any_bytes_are_searched_without_an_exception(body: bytes) -> None:
    assert find_block(body) is None
