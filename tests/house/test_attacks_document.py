"""docs/attacks.md: every test that it names exists, every check that is made stops something."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from attestation.checks import CHECKS
from attestation.policy.lint import NEVER_MADE
from attestation.result import Verdict
from tests.house.conftest import ROOT
from tests.verifier.attacks import OPEN, REJECTED

DOCUMENT = (ROOT / "docs" / "attacks.md").read_text("utf-8")
HEADER = ["attack", "who", "stopped by", "verdict", "test"]
WHO = {"anybody", "operator", "gateway", "thief", "engine"}
REFUSING = {str(verdict) for verdict in Verdict} - {"ACCEPTED", "SIMULATED", "UNAVAILABLE"}
TEST = re.compile(r"`([a-z_/0-9]+\.py::test_[a-z_0-9]+(?:\[[^\]`]+\])?)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attack of the tables."""

    attack: str
    who: str
    checks: tuple[str, ...]
    stopper: str
    verdict: str
    test: str


def rows() -> Iterator[Row]:
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells == HEADER or set(cells) <= {"---"}:
            continue
        attack, who, stopper, verdict, test = cells
        named = TEST.fullmatch(test)
        assert named, f"{attack}: no test is named"
        checks = tuple(id_ for id_ in re.findall(r"`([A-Z-]+)`", stopper))
        yield Row(
            attack=attack, who=who, checks=checks, stopper=stopper, verdict=verdict, test=named[1]
        )


ROWS = list(rows())


def test_every_table_has_rows() -> None:
    tables = DOCUMENT.count("| " + " | ".join(HEADER) + " |")
    assert tables == DOCUMENT.count("\n|---|---|---|---|---|\n") == 12
    assert len(ROWS) > 90
    assert len({row.attack for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.attack[:60])
def test_row_names_an_attacker_a_stopper_and_a_refusal(row: Row) -> None:
    assert row.who in WHO
    assert row.stopper
    assert set(row.verdict.split(", ")) <= REFUSING or row.verdict == "refused"
    assert set(row.checks) <= CHECKS.keys()
    assert row.checks or row.verdict == "refused"


def test_every_check_that_is_made_stops_an_attack() -> None:
    named = {id_ for row in ROWS for id_ in row.checks}
    assert CHECKS.keys() - NEVER_MADE <= named
    limits = DOCUMENT[DOCUMENT.index("## What no check stops") :]
    assert all(f"`{id_}`" in limits for id_ in NEVER_MADE)


def test_every_test_that_is_named_exists() -> None:
    wanted = sorted({f"tests/{row.test}" for row in ROWS})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *wanted], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_collection_notices_a_test_that_does_not_exist() -> None:
    missing = "tests/verifier/test_attacks.py::test_that_nobody_wrote"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, missing], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode != 0


def test_rows_on_the_log_say_what_their_attacks_come_to() -> None:
    """The attacks that are listed with their outcome are described with that outcome."""
    known = {
        f"{attack.__name__}]": (checks, verdict)
        for table, verdict in ((REJECTED, "REJECTED"), (OPEN, "INCOMPLETE"))
        for attack, checks in table.items()
    }
    described = 0
    for row in ROWS:
        if not row.test.startswith("verifier/test_attacks.py::test_attack_"):
            continue
        checks, verdict = known[row.test.partition("[")[2]]
        assert row.verdict == verdict, row.attack
        assert set(row.checks) <= checks, row.attack
        described += 1
    assert described > 15


@pytest.mark.parametrize("name", ["README.md", "docs/verifying.md", "SECURITY.md"])
def test_document_is_linked(name: str) -> None:
    assert "attacks.md)" in (ROOT / name).read_text("utf-8")
