"""Fixtures and reports that every test folder shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from _pytest.terminal import TerminalReporter

from tests import vectors_path

# No deadline: a slow machine is not a failure. Derandomized: a red run stays red when repeated;
# new inputs are the fuzzer's job.
hypothesis.settings.register_profile(
    "project", deadline=None, derandomize=True, database=None, max_examples=100
)
hypothesis.settings.register_profile(
    "quick", deadline=None, derandomize=True, database=None, max_examples=15
)
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Path]:
    """`vectors("tdx")` gives that topic's folder or skips the test."""
    return vectors_path.need


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("vectors" in _reason(report).lower() for report in skipped)
    if vectors_path.find() is None or count:
        terminalreporter.write_line(
            f"vectors: {count} cases skipped because ../shared/vectors (or ATTESTED_VECTORS) "
            "is absent"
        )
