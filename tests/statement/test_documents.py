"""The example of the specification is made by the product's code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from attestation.statement import parse_boot_statement, parse_keyset
from tests.statement.documented import documented

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "statements.md"


def test_documented_example_is_what_the_code_makes() -> None:
    content = SPEC.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)
    keyset, statement = documented()
    assert parse_keyset(json.loads(blocks[0])) == keyset
    assert parse_boot_statement(json.loads(blocks[1])) == statement
    assert blocks[2].strip() == statement.digest.hex
    assert statement.keyset_digest == keyset.digest
