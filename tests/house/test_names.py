"""The names of tests, which other tools remember."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.house.conftest import ROOT


@pytest.mark.slow
def test_tests_have_the_same_names_in_every_run() -> None:
    """Those that failed are run again by name; which test noticed a mutant is remembered by it."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=--strict-markers --import-mode=importlib", "-q"]
    # Sets of texts have another order, keys and clocks other values.
    first, second = (
        subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.splitlines()
        for seed in ("1", "2")
    )
    assert first[:-1] == second[:-1]
