"""The documents say what the program does: anchors, keys, exit codes and check ids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attestation.checks import ANCHORING, CHECKS, FLOOR
from attestation.policy import parse_policy
from attestation.report import document
from attestation.result import PRECEDENCE, Verdict
from tests.support.bundles import Gateway

DOCS = Path(__file__).parents[2] / "docs"


def anchors(name: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", (DOCS / "spec" / name).read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^a-z0-9 -]", "", heading.lower()) for heading in headings)
    return {text.strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("id_", CHECKS)
def test_rule_of_every_check_stands_where_it_says(id_: str) -> None:
    name, _, anchor = CHECKS[id_].spec.partition("#")
    assert anchor in anchors(name)


def test_policy_document_explains_every_key_and_its_example_is_a_policy() -> None:
    text = (DOCS / "spec" / "policy.md").read_text("utf-8")
    keys = re.findall(r"^#? ?(\w+) = ", (DOCS.parent / "examples/policy.toml").read_text("utf-8"),
                      re.MULTILINE)  # fmt: skip
    assert keys
    assert all(f"`{key}`" in text or f"{key}`" in text for key in keys)
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert parse_policy(example.encode()).reference_values[0].origin == "gateway.example"


def test_policy_document_lists_the_floor() -> None:
    text = (DOCS / "spec" / "policy.md").read_text("utf-8")
    section = text[text.index("## The floor") : text.index("## Quotes")]
    prefixes = tuple(re.findall(r"`([A-Z]+-)`", section))
    named = set(re.findall(r"`([A-Z-]+[A-Z])`", section))
    assert {id_ for id_ in FLOOR if not id_.startswith(prefixes)} == named
    assert {id_ for id_ in CHECKS if id_.startswith(prefixes)} <= FLOOR
    assert named >= ANCHORING


def test_exit_codes_are_documented() -> None:
    text = (DOCS / "verifying.md").read_text("utf-8")
    for verdict in Verdict:
        assert f"| {verdict.exit_code} | {verdict} |" in text
    assert ", ".join(str(verdict.exit_code) for verdict in PRECEDENCE) in text


def test_members_of_a_result_are_documented() -> None:
    text = (DOCS / "verifying.md").read_text("utf-8")
    made = Gateway()
    made.plain()
    value = document(made.verify(), name="x")
    assert all(f"`{member}`" in text for member in value)
    assert all(member in text for member in value["checks"][0])
