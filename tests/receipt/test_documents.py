"""The specification's examples are made by the product's code, and its grammar is the parser's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from attestation.encoding.digest import Digest
from attestation.encoding.jwk import parse_public_jwk
from attestation.receipt import text
from attestation.receipt.block import find_block, remove_block, render_block
from attestation.receipt.commitments import parse_openings, verify_commitment
from attestation.receipt.signing import parse_receipt, verify_receipt_signature
from tests.receipt.documented import documented
from tests.receipt.test_claims import full

SPEC = Path(__file__).parents[2] / "docs" / "spec"


def code_blocks(document: str) -> list[str]:
    content = (SPEC / document).read_text(encoding="utf-8")
    return re.findall(r"^```[a-z]*\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)


def test_documented_example_is_what_the_code_makes() -> None:
    request, stream, claims, jwk, openings = code_blocks("receipt.md")[:5]
    made = documented()
    assert request == made.request.decode() + "\n"
    assert stream == made.stream.decode()
    assert json.loads(claims) == made.claims
    assert json.loads(jwk) == made.jwk
    assert json.loads(openings) == made.openings


def test_documented_example_passes_the_documented_steps() -> None:
    request, stream, _, jwk, shown = code_blocks("receipt.md")[:5]
    found = find_block(stream.encode())
    assert found is not None
    receipt = parse_receipt(found.token)
    verify_receipt_signature(receipt, parse_public_jwk(json.loads(jwk)))
    openings = parse_openings(json.loads(shown))
    assert openings.encode_header() == found.openings
    assert receipt.claims.response.block_offset == found.offset
    block = render_block(found.token, openings)
    body = remove_block(stream.encode(), found.offset, block)
    for commitment, label, data in (
        (receipt.claims.request.commitment, "req", request.rstrip("\n").encode()),
        (receipt.claims.response.commitment, "res", body),
    ):
        assert commitment is not None
        verify_commitment(commitment, openings.keys[label], Digest.of(data), what=label)


def grammar() -> str:
    return (SPEC / "receipt.cddl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "pattern",
    [
        text.NAME,
        text.LOG_ORIGIN,
        text.LABEL,
        text.CODE,
        text.SPAN,
        text.CALLER_TEXT,
        text.CONTENT_TYPE,
        text.ENGINE,
        text.REASON,
        text.PATH,
        text.NONCE,
        text.RECEIPT_ID,
    ],
)
def test_every_alphabet_is_in_the_grammar(pattern: re.Pattern[str]) -> None:
    escaped = pattern.pattern.replace("\\", "\\\\")
    assert f'.regexp "{escaped}"' in grammar()


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        (r"par: \[0\*(\d+)", text.MAX_PARENTS),
        (r"att: \[0\*(\d+)", text.MAX_ATTEMPTS),
        (r"mod: \[1\*(\d+) \{", text.MAX_SPLICES),
        (r"mod: \[1\*(\d+) code", text.MAX_MODS),
        (r"fin: \[1\*(\d+)", text.MAX_REASONS + 1),
    ],
)
def test_every_bound_is_in_the_grammar(rule: str, most: int) -> None:
    found = re.search(rule, grammar())
    assert found is not None
    assert int(found[1]) == most


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(names_in(child) for child in value.values()))
    if isinstance(value, list):
        return set().union(*(names_in(child) for child in value))
    return set()


def test_grammar_names_the_members_that_exist_and_no_others() -> None:
    without_comments = re.sub(r";.*", "", grammar())
    quoted_out = re.sub(r'"[^"]*"', "", without_comments)
    listed = set(re.findall(r"\b([a-z_]+):", quoted_out))
    assert listed == names_in(full()) | {"part"}
