"""The targets hold on changed inputs, and the harness notices when one does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from attestation.errors import MalformedError
from tests.fuzz.engine import KEPT_FINDINGS, Tally, run_random
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
RUNS = {"bundle": 60, "verify": 25, "verify-quote": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_first_seed_of_every_target_is_accepted(name: str) -> None:
    target = TARGETS[name]
    target.run(target.seeds()[0])


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_accepted_or_refused_and_never_anything_else(name: str) -> None:
    runs = RUNS.get(name, 250)
    tally = run_random(TARGETS[name], runs=runs, seed=1)
    assert tally.findings == []
    assert tally.inputs >= runs
    assert tally.accepted + tally.refused == tally.inputs


@pytest.mark.parametrize("shape", ["bytes", "text", "json", "jws", "json64"])
def test_equal_seeds_make_equal_inputs_and_other_seeds_others(shape: str) -> None:
    data = b"e30.eyJhIjpbMSwiYiJdfQ.AAAA\n" + b'{"a":[1,{"b":"c"}]}'

    def made(seed: int) -> list[bytes]:
        rng = Random(seed)  # noqa: S311
        return [mutate(rng, data, shape, [data]) for _ in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len(set(made(1))) > 25


def test_changes_reach_the_json_inside_a_token() -> None:
    rng = Random(3)  # noqa: S311
    token = b"eyJhbGciOiJ4In0.eyJhIjpbMSwiYiJdfQ.AAAA"
    changed = [mutate(rng, token, "jws", [token]) for _ in range(200)]
    assert any(data.count(b".") == 2 and data != token for data in changed)


def broken(data: bytes) -> None:
    if b"1" in data:
        message = "x"
        raise MalformedError(message)
    if b"2" in data:
        raise KeyError(data)
    assert b"3" not in data


def test_harness_counts_refusals_and_keeps_foreign_exceptions() -> None:
    target, tally = Target(run=broken, seeds=lambda: [b"0"]), Tally()
    for data in (b"0", b"1", b"2", b"3", *[b"2"] * 10):
        tally.feed(target, data)
    assert (tally.inputs, tally.accepted, tally.refused, tally.foreign) == (14, 1, 1, 12)
    assert len(tally.findings) == KEPT_FINDINGS
    assert tally.findings[0]["error"].startswith("KeyError at test_fuzz.py:")
    assert tally.findings[1]["error"].startswith("AssertionError at test_fuzz.py:")
    assert tally.findings[0]["input"] == b"2".hex()


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "fuzz.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_command_reports_a_table_and_exits_with_0(tmp_path: Path) -> None:
    arguments = ("--runs", "40", "--seed", "5", "--engine", "random", "--out", str(tmp_path))
    told = fuzz("--target", "checkpoint", "--target", "jcs", *arguments)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0].split() == [
        "target", "engine", "inputs", "accepted", "refused", "crashes", "foreign", "seconds",
    ]  # fmt: skip
    assert sorted(line.split()[:3] for line in lines[1:3]) == [
        ["checkpoint", "random", "41"],
        ["jcs", "random", "41"],
    ]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["targets"]["jcs"]["foreign"] == 0


def test_command_refuses_a_target_it_does_not_know() -> None:
    told = fuzz("--target", "nothing")
    assert told.returncode == 2
    assert "checkpoint" in told.stderr
