"""The import contracts hold, and each of them notices a violation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.conftest import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(tree: Path) -> tuple[int, str]:
    told = subprocess.run(
        [LINT, "--no-cache"],
        cwd=tree,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    return told.returncode, told.stdout + told.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in ("attestation", "gateway"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_import_contracts_hold() -> None:
    status, output = lint(ROOT)
    assert status == 0, output


@pytest.mark.parametrize(
    ("module", "code", "contract"),
    [
        ("attestation/encoding/zz.py", "import attestation.merkle", "every module imports only"),
        ("attestation/tdx/zz.py", "import attestation.cli", "every module imports only"),
        ("attestation/misc.py", "", "every module imports only"),
        ("attestation/merkle/zz.py", "import gateway", "no server, no client"),
        ("attestation/cli/zz.py", "import httpx2", "no server, no client"),
        ("gateway/edge/zz.py", "import gateway.attester", "reached only through the notary"),
        ("gateway/client/zz.py", "import gateway.edge", "independent of the server"),
        ("gateway/client/zz.py", "import fastapi", "independent of the server"),
        ("gateway/notary/zz.py", "import vllm", "never imported"),
    ],
)
def test_violation_is_noticed(tree: Path, module: str, code: str, contract: str) -> None:
    (tree / module).write_text(code + "\n", encoding="utf-8")
    status, output = lint(tree)
    assert status == 1, output
    broken = [line for line in output.splitlines() if line.rstrip().endswith("BROKEN")]
    assert any(contract in line for line in broken), output
