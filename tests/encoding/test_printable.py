from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding.printable import printable


@pytest.mark.parametrize("text", ["", "plain", "ü…✓", "a b"])
def test_printable_text_is_left_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb", "a\\nb"),
        ("\u202e", "\\u202e"),
        ("\udc80", "\\udc80"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_everything_else_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_result_is_printable_whatever_the_text(text: str) -> None:
    assert printable(text).isprintable()
