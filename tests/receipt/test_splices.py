"""A rewrite is replayed byte for byte or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceError
from attestation.receipt.claims import Splice
from attestation.receipt.splices import apply_splices


def splice(offset: int, deleted: int, inserted: int) -> Splice:
    return Splice(code="cache_salt", offset=offset, deleted=deleted, inserted=inserted)


@pytest.mark.parametrize(
    ("splices", "inserted", "result"),
    [
        ((), (), b"0123456789"),
        ((splice(0, 0, 1),), (b"a",), b"a0123456789"),
        ((splice(10, 0, 1),), (b"a",), b"0123456789a"),
        ((splice(2, 3, 2),), (b"ab",), b"01ab56789"),
        ((splice(0, 10, 0),), (b"",), b""),
        ((splice(1, 1, 1), splice(2, 0, 1)), (b"a", b"b"), b"0ab23456789"),
    ],
)
def test_splices_are_applied_at_offsets_of_the_received_body(
    splices: tuple[Splice, ...], inserted: tuple[bytes, ...], result: bytes
) -> None:
    assert apply_splices(b"0123456789", splices, inserted) == result


@pytest.mark.parametrize(
    ("splices", "inserted"),
    [
        ((splice(0, 0, 1),), ()),
        ((), (b"a",)),
        ((splice(0, 0, 2),), (b"a",)),
        ((splice(11, 0, 1),), (b"a",)),
        ((splice(8, 3, 1),), (b"a",)),
        ((splice(5, 0, 1), splice(4, 0, 1)), (b"a", b"b")),
        ((splice(4, 2, 1), splice(5, 0, 1)), (b"a", b"b")),
    ],
)
def test_splices_that_do_not_fit_are_refused(
    splices: tuple[Splice, ...], inserted: tuple[bytes, ...]
) -> None:
    with pytest.raises(EvidenceError):
        apply_splices(b"0123456789", splices, inserted)


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40), st.binary(max_size=9))
def test_splice_is_what_slicing_says(
    received: bytes, offset: int, deleted: int, piece: bytes
) -> None:
    offset = min(offset, len(received))
    deleted = min(deleted, len(received) - offset)
    expected = received[:offset] + piece + received[offset + deleted :]
    assert apply_splices(received, (splice(offset, deleted, len(piece)),), (piece,)) == expected
