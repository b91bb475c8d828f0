"""`attested explain`: every check has an explanation, and unknown ones a suggestion."""

from __future__ import annotations

import json

import pytest

from attestation.checks import CHECKS, FLOOR
from attestation.cli.main import main
from attestation.policy.lint import NEVER_MADE
from attestation.report.explain import explain
from attestation.report.explanations import EXPLANATIONS

IDS = [
    "BUNDLE", "QUOTE-FORMAT", "QUOTE-GENUINE", "COLLATERAL-FRESH", "TCB-STATUS",
    "TCB-ADVISORIES", "TD-ATTRIBUTES", "TDX-MODULE", "MEASUREMENTS", "EVENT-LOG", "PLATFORM",
    "BOOT-STATEMENT", "BOOT-CHAIN", "KEYSET", "CHANNEL", "GPU-GENUINE", "GPU-MEASUREMENTS",
    "GPU-BINDING", "RECEIPT-FORMAT", "RECEIPT-SIGNATURE", "RECEIPT-BINDING", "NONCE",
    "REQUEST-BODY", "FORWARDED-BODY", "ENGINE-BODY", "RESPONSE-BODY", "ENGINE-LOCAL", "MODEL",
    "LOG-INCLUSION", "LOG-CHECKPOINT", "EPOCH-QUOTE", "EPOCH-CHAIN", "EQUIVOCATION", "WITNESS",
    "LINEAGE-EDGES", "LINEAGE-COMPLETE",
]  # fmt: skip


@pytest.mark.parametrize("id_", IDS)
def test_id_that_policies_may_name_stays(id_: str) -> None:
    assert explain(id_)["id"] == id_


def test_every_id_is_one_of_those_that_stay() -> None:
    assert [explain(id_)["id"] for id_ in CHECKS] == IDS


def test_every_check_is_explained() -> None:
    assert list(EXPLANATIONS) == list(CHECKS)
    for told in EXPLANATIONS.values():
        assert told.proves.endswith((".", "…"))
        assert told.stops.endswith(".")
        assert told.by_hand.strip() == told.by_hand
        assert not told.aside or told.aside.endswith(".")


@pytest.mark.parametrize("id_", sorted(NEVER_MADE))
def test_check_that_is_not_made_says_so(id_: str) -> None:
    told = EXPLANATIONS[id_]
    words = f"{told.proves} {told.aside}"
    assert "Not made by this version" in words or "not checked by this version" in words


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("EPOCH-QUOTE", "always, unless the policy says [log] require_anchored = false"),
        ("event-log", "always"),
        ("EPOCH-CHAIN", "only if the policy asks for it"),
    ],
)
def test_explanation_says_what_it_proves_stops_and_needs(
    name: str, required: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 0
    output, id_ = capsys.readouterr().out, name.upper()
    assert output.startswith(f"{id_}: {CHECKS[id_].title}\n\nproves    ")
    assert "\nstops     " in output
    assert f"\nrequired  {required}\n" in output
    assert f"\nspec      docs/spec/{CHECKS[id_].spec}\n" in output
    assert "\nBy hand, in a folder as `attested demo` leaves it:\n" in output
    assert f"\n{EXPLANATIONS[id_].by_hand}\n" in output


@pytest.mark.parametrize("name", [name for name, one in EXPLANATIONS.items() if one.aside])
def test_what_the_commands_leave_out_is_a_comment_to_a_shell(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 0
    _, found, behind = capsys.readouterr().out.partition(f"\n{EXPLANATIONS[name].by_hand}\n\n")
    assert found
    lines = behind.splitlines()
    assert all(line.startswith("# ") and len(line) <= 100 for line in lines)
    assert " ".join(line[2:] for line in lines) == EXPLANATIONS[name].aside


def test_explanation_without_an_aside_ends_with_the_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "KEYSET"]) == 0
    assert capsys.readouterr().out.endswith(f"\n{EXPLANATIONS['KEYSET'].by_hand}\n")


def test_script_is_printed_alone_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "KEYSET", "--script"]) == 0
    assert capsys.readouterr().out == EXPLANATIONS["KEYSET"].by_hand + "\n"


@pytest.mark.parametrize("extra", [[], ["KEYSET", "--json"]])
def test_script_takes_one_check(extra: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--script", *extra]) == 2
    assert "--script takes one CHECK-ID" in capsys.readouterr().err


def test_all_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CHECKS)
    assert main(["explain", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["checks"]
    assert {one["id"] for one in shown if one["required"].startswith("always")} == FLOOR
    members = {"id", "title", "proves", "stops", "required", "spec", "by_hand", "aside"}
    assert all(one.keys() == members for one in shown)


@pytest.mark.parametrize(
    ("name", "hint"), [("EPOCH-QUOTES", "did you mean EPOCH-QUOTE?"), ("x", "`attested explain`")]
)
def test_unknown_check_is_refused_with_a_hint(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 2
    assert hint in capsys.readouterr().err
