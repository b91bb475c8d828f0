"""docs/spec/runtime-events.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from attestation.encoding.digest import Digest
from attestation.tdx.launch import LAUNCH_ORDER, MODEL_ROOT
from attestation.tdx.runtime import RECEIPT_KEY, MeasuredEvent
from gateway.cli.measure_runtime import _STEPS
from gateway.upstream.engine_start import _NEEDED

DOCUMENT = (Path(__file__).parents[2] / "docs" / "spec" / "runtime-events.md").read_text()


def test_table_lists_every_event_in_its_order() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \|", DOCUMENT, re.MULTILINE)
    assert tuple(rows) == (*LAUNCH_ORDER, RECEIPT_KEY)


def test_example_is_the_digest_that_extends_the_register() -> None:
    event = MeasuredEvent(name=MODEL_ROOT, sha256=Digest.from_hex("ab" * 32, what="root"))
    assert f"\n{event.content.decode()}\n" in DOCUMENT
    assert f"\n{event.digest.hex()}\n" in DOCUMENT


def test_every_needed_flag_and_every_step_is_named() -> None:
    for flag, value in _NEEDED.items():
        named = f"`{flag}`" if value is None else f"`{flag} {value}`"
        assert named in DOCUMENT
    for step in _STEPS:
        if step != "show":
            assert re.search(rf"\| `{step}`", DOCUMENT), step
