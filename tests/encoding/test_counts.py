"""One thing is not several."""

from __future__ import annotations

import pytest

from attestation.encoding.counts import are, counted, leaves, were


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 receipts are, 0 leaves were"),
        (1, "1 receipt is, 1 leaf was"),
        (2, "2 receipts are, 2 leaves were"),
    ],
)
def test_number_of_things_is_written_with_its_noun_and_verb(count: int, told: str) -> None:
    text = f"{counted(count, 'receipt')} {are(count)}, {leaves(count)} {were(count)}"
    assert text == told
