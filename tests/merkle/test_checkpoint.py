"""Checkpoints are three lines in one spelling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.encoding import base64std
from attestation.errors import MalformedError
from attestation.merkle.checkpoint import Checkpoint, parse_checkpoint, parse_decimal
from tests.refusals import refusal

ROOT = bytes(range(32))
ENCODED = base64std.encode(ROOT)
TEXT = f"example.com/log\n20852163\n{ENCODED}\n"


def test_checkpoint_is_read_back() -> None:
    checkpoint = parse_checkpoint(TEXT)
    assert checkpoint == Checkpoint(origin="example.com/log", size=20852163, root=ROOT)
    assert checkpoint.text == TEXT


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_any_checkpoint_survives_its_text(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin=origin, size=size, root=root)
    assert parse_checkpoint(checkpoint.text) == checkpoint


@given(st.text(alphabet="ab=\n01 é/+", max_size=60))
def test_only_malformed_error_escapes_and_what_passes_is_its_own_text(text: str) -> None:
    for candidate in (text, f"{text}\n{ENCODED}\n", f"o\n{text}\n{ENCODED}\n"):
        try:
            checkpoint = parse_checkpoint(candidate)
        except MalformedError:
            continue
        assert checkpoint.text == candidate


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", "checkpoint", id="empty"),
        pytest.param(TEXT.removesuffix("\n"), "checkpoint", id="no final newline"),
        pytest.param(TEXT + "extension\n", "checkpoint", id="extension line"),
        pytest.param(TEXT + "\n", "checkpoint", id="empty line"),
        pytest.param(TEXT + "x", "checkpoint", id="more after the last newline"),
        pytest.param("\n" + TEXT, "checkpoint", id="leading empty line"),
        pytest.param(f"\n1\n{ENCODED}\n", "checkpoint", id="empty origin"),
        pytest.param(f"o\x00\n1\n{ENCODED}\n", "checkpoint", id="NUL in the origin"),
        pytest.param(f"o\r\n1\n{ENCODED}\n", "checkpoint", id="CR in the origin"),
        pytest.param(f"{'o' * 257}\n1\n{ENCODED}\n", "checkpoint", id="long origin"),
        pytest.param(f"o\n\n{ENCODED}\n", "decimal", id="no size"),
        pytest.param(f"o\n01\n{ENCODED}\n", "decimal", id="leading zero"),
        pytest.param(f"o\n+1\n{ENCODED}\n", "decimal", id="plus"),
        pytest.param(f"o\n-1\n{ENCODED}\n", "decimal", id="minus"),
        pytest.param(f"o\n1 \n{ENCODED}\n", "decimal", id="space"),
        pytest.param(f"o\n1_0\n{ENCODED}\n", "decimal", id="underscore"),
        pytest.param(f"o\n٣\n{ENCODED}\n", "decimal", id="digit of another script"),
        pytest.param(f"o\n{2**64}\n{ENCODED}\n", "decimal", id="2^64"),
        pytest.param(f"o\n{'9' * 5000}\n{ENCODED}\n", "decimal", id="endless number"),
        pytest.param(f"o\n1\n{ENCODED[:-1]}\n", "base64", id="no padding"),
        pytest.param(f"o\n1\n{ENCODED} \n", "base64", id="space after the root"),
        pytest.param(f"o\n1\n{base64std.encode(ROOT[1:])}\n", "base64", id="short root"),
        pytest.param(f"o\n1\n{base64std.encode(ROOT * 2)}\n", "base64", id="long root"),
    ],
)
def test_checkpoint_in_another_form_is_rejected(text: str, code: str) -> None:
    assert refusal(parse_checkpoint, text) == code


def test_origin_of_256_characters_passes() -> None:
    assert parse_checkpoint(f"{'o' * 256}\n0\n{ENCODED}\n").size == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": ""},
        {"origin": "a\nb"},
        {"size": -1},
        {"size": 2**64},
        {"root": bytes(31)},
        {"root": bytes(33)},
    ],
)
def test_checkpoint_that_has_no_text_is_not_made(changed: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"origin": "o", "size": 1, "root": ROOT} | changed
    assert refusal(Checkpoint, **fields) == "checkpoint"


def test_largest_number_is_below_2_to_the_64() -> None:
    assert parse_decimal(str(2**64 - 1), what="x") == 2**64 - 1
    assert parse_decimal("0", what="x") == 0
    assert parse_decimal("10", what="x") == 10
    with pytest.raises(MalformedError, match="the index"):
        parse_decimal("00", what="the index")
