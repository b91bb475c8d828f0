"""`attested explain`: every check has an explanation, and unknown ones a suggestion."""

from __future__ import annotations

import json

import pytest

from attestation.checks import CHECKS, FLOOR
from attestation.cli.main import main
from attestation.report.explain import EXPLANATIONS


def test_every_check_is_explained() -> None:
    assert EXPLANATIONS.keys() == CHECKS.keys()
    assert all(text.endswith(".") for text in EXPLANATIONS.values())


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("EPOCH-QUOTE", "always, unless the policy says [log] require_anchored = false"),
        ("event-log", "always"),
        ("EPOCH-CHAIN", "only if the policy asks for it"),
    ],
)
def test_explanation_says_when_the_check_is_required(
    name: str, required: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{name.upper()}: {CHECKS[name.upper()].title}\n\n")
    assert f"\nrequired  {required}\n" in output
    assert output.endswith(f"rule      docs/spec/{CHECKS[name.upper()].spec}\n")


def test_all_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CHECKS)
    assert main(["explain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["checks"]
    assert {one["id"] for one in shown if one["required"].startswith("always")} == FLOOR


@pytest.mark.parametrize(
    ("name", "hint"), [("EPOCH-QUOTES", "did you mean EPOCH-QUOTE?"), ("x", "`attested explain`")]
)
def test_unknown_check_is_refused_with_a_hint(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 2
    assert hint in capsys.readouterr().err
