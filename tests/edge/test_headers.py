"""The head of a request."""

from __future__ import annotations

import pytest

from gateway.edge.headers import read_head


@pytest.mark.parametrize(
    ("length", "declared"),
    [
        (b"0", 0),
        (b"00012", 12),
        (b"", None),
        (b"+1", None),
        (b"1_0", None),
        ("\u0661".encode(), None),
        (b"0" * 5000 + b"1", None),
    ],
)
def test_length_is_declared_in_ascii_digits_that_a_number_can_have(
    length: bytes, declared: int | None
) -> None:
    head = read_head([(b"content-length", length)], b"")
    assert head.declared_length == declared
