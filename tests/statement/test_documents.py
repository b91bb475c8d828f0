"""The example of the specification is made by the product's code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from attestation.encoding.jcs import canonicalize
from attestation.statement import parse_boot_statement, parse_keyset
from attestation.statement.model_lock import parse_model_lock
from attestation.tdx.eventlog import MeasuredEvent
from tests.statement.documented import documented
from tests.statement.documented_model import documented_lock

DOCS = Path(__file__).parents[2] / "docs" / "spec"


def blocks_of(name: str) -> list[str]:
    content = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"^```[a-z]*\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)


def test_documented_example_is_what_the_code_makes() -> None:
    blocks = blocks_of("statements.md")
    keyset, statement = documented()
    assert parse_keyset(json.loads(blocks[0])) == keyset
    assert parse_boot_statement(json.loads(blocks[1])) == statement
    assert blocks[2].strip() == statement.digest.hex
    assert statement.keyset_digest == keyset.digest


def test_documented_model_lock_is_what_the_code_makes() -> None:
    lock, blocks = documented_lock(), blocks_of("model.md")
    assert parse_model_lock(canonicalize(json.loads(blocks[0]))) == lock
    assert lock.engine is not None
    digests = {"model.lock": lock.digest, "engine.args": lock.engine.arguments_digest}
    assert [blocks[1].strip(), blocks[2].strip()] == [one.hex for one in digests.values()]
    events = [MeasuredEvent(name=name, sha256=digest) for name, digest in digests.items()]
    assert blocks[3].split() == [event.content.decode() for event in events]
    assert blocks[4].split() == [event.digest.hex() for event in events]
