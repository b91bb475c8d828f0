"""No change of an audit folder is accepted: a sample of every kind here, all in tools/tamper.py."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.tamper.folder import AuditFolder, judge, load_folder, write_evidence
from tests.tamper.folders import (
    PROOFS,
    epoch_log,
    folder_of,
    folder_of_log,
    gateway,
    rich_gateway,
)
from tests.tamper.sweep import REFUSED, families, run

ROOT = Path(__file__).resolve().parents[2]
OWN = gateway("own")
FOLDER = folder_of(OWN)
RICH = folder_of(rich_gateway("rich"), more=PROOFS)
LOG = epoch_log("log")
EPOCHS = folder_of_log(LOG)
OTHERS = {
    "machine": folder_of(gateway("sibling", platform_of=OWN)),
    "root": folder_of(gateway("other")),
}
FAMILIES = families(FOLDER, OTHERS, everywhere=False)
STRIDES = {
    "file-bits": 29,
    "file-lengths": 31,
    "body-bits": 23,
    "body-lengths": 5,
    "token-bits": 23,
    "token-lengths": 11,
    "leaf-bits": 17,
    "members": 3,
    "items": 1,
    "claims": 3,
    "receipt-swaps": 1,
    "epoch-swaps": 1,
    "bundle-swaps": 1,
}


@pytest.mark.parametrize("everywhere", [False, True])
def test_every_family_of_changes_has_a_stride(everywhere: bool) -> None:
    assert families(FOLDER, OTHERS, everywhere=everywhere).keys() == STRIDES.keys()


def test_untouched_folder_ends_in_15() -> None:
    assert judge(FOLDER) == judge(RICH) == judge(EPOCHS) == 15
    assert {judge(other) for other in OTHERS.values()} <= {15, 10}


@pytest.mark.parametrize("name", STRIDES)
def test_no_change_is_accepted(name: str) -> None:
    tally = run(FAMILIES[name](), stride=STRIDES[name])
    assert tally.violations == []
    assert tally.cases > 10 or name == "epoch-swaps"


@pytest.mark.parametrize("name", STRIDES)
def test_no_change_of_a_folder_with_rewrites_and_proofs_is_accepted(name: str) -> None:
    made = families(RICH, {}, everywhere=False)[name]
    tally = run(made(), stride=3 * STRIDES[name] + 2)
    assert tally.violations == []
    assert tally.cases > 10 or name in ("bundle-swaps", "epoch-swaps")


@pytest.mark.parametrize("name", STRIDES)
def test_no_change_of_a_folder_with_a_whole_log_is_accepted(name: str) -> None:
    others = {"machine": folder_of_log(epoch_log("log sibling", platform_of=LOG.made))}
    made = families(EPOCHS, others, everywhere=False)[name]
    stride = 2 if name.endswith("-swaps") else 5 * STRIDES[name] + 3
    tally = run(made(), stride=stride)
    assert tally.violations == []
    assert tally.cases > 10


def test_swaps_reach_evidence_that_only_a_binding_protects() -> None:
    # Most swaps end in a signature; some must get as far as two genuine parts that do not match.
    codes = run(FAMILIES["bundle-swaps"]()).codes
    assert codes["bundles: parts of the boot"][10] > 20
    assert codes["bundles: receipts replaced"][12] == len(OTHERS)


def accepts(folder: AuditFolder) -> int:
    return 15


def fails(folder: AuditFolder) -> int:
    return 1


@pytest.mark.parametrize(("judge_", "code"), [(accepts, 15), (fails, 1)])
def test_judge_that_accepts_or_breaks_is_noticed(judge_: object, code: int) -> None:
    tally = run(islice(FAMILIES["items"](), 30), judge=judge_)  # type: ignore[arg-type]
    assert tally.escaped == tally.cases > 20
    assert all(line.startswith(f"exit {code}: item") for line in tally.violations)


def test_exception_that_is_not_ours_counts_as_internal_error() -> None:
    broken = FOLDER.but(**{"x.nothing": b""})
    assert judge(broken) == 1


def written(path: Path) -> list[str]:
    """Write the auditor's own files and return the command that verifies the folder."""
    (path / "policy.toml").write_text(OWN.policy_toml())
    (path / "root.pem").write_bytes(OWN.anchor.root_der)
    return [
        sys.executable, "-m", "attestation.cli.main", "verify", "bundle.json",
        "--policy", "policy.toml", "--root", "root.pem", "--contents", "bodies",
        "--at", str(FOLDER.at),
    ]  # fmt: skip


def through_command(folder: AuditFolder, path: Path, command: list[str]) -> int:
    write_evidence(folder, path)
    done = subprocess.run(
        command, cwd=path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    return done.returncode


@pytest.mark.slow
def test_command_ends_as_the_pipeline_says(tmp_path: Path) -> None:
    command = written(tmp_path)
    assert through_command(FOLDER, tmp_path, command) == 15
    assert judge(load_folder(tmp_path, FOLDER.at)) == 15
    for name in STRIDES:
        changed = [case.build() for case in islice(FAMILIES[name](), 5, 300, 147)]
        for folder in changed:
            if folder is not None:
                code = through_command(folder, tmp_path, command)
                assert code == judge(folder)
                assert code in REFUSED
