"""Random ids that are drawn many at once."""

from __future__ import annotations

import re

from gateway.edge.ids import BlockDraw, drawn


def test_no_digits_are_given_out_twice() -> None:
    draw = BlockDraw()
    # Sizes that do not divide a block, over several blocks.
    ids = [draw(32) + draw(16) + draw(48) for _ in range(500)]
    pieces = [one[at : at + 16] for one in ids for at in range(0, 96, 16)]
    assert len(set(pieces)) == len(pieces)
    assert all(re.fullmatch("[0-9a-f]{96}", one) for one in ids)


def test_two_draws_and_the_system_give_out_different_digits() -> None:
    first, second = BlockDraw(), BlockDraw()
    assert len({first(32), second(32), drawn(32), drawn(32)}) == 4
    assert len(drawn(48)) == 48


def test_block_that_is_used_up_is_not_stretched() -> None:
    draw = BlockDraw()
    assert len(draw(8192)) == 8192
    assert len(draw(8192)) == 8192
    assert draw(2) != ""
