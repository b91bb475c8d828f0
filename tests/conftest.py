"""Fixtures and reports that every test folder shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import httpx2
import hypothesis
import pytest
from _pytest.terminal import TerminalReporter

from tests import vectors_path

# No deadline: a slow machine is not a failure. Derandomized: a red run stays red when repeated;
# new inputs are the fuzzer's job.
_HYPOTHESIS = hypothesis.settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("project", _HYPOTHESIS, max_examples=100)
hypothesis.settings.register_profile("quick", _HYPOTHESIS, max_examples=15)
hypothesis.settings.load_profile("project")

# Nor is it for clients that name no timeout of their own: five seconds are soon over on two busy
# cores.  Every signature has this one object as its default.
for _default in (httpx._config.DEFAULT_TIMEOUT_CONFIG, httpx2._config.DEFAULT_TIMEOUT_CONFIG):
    _default.connect = _default.read = _default.write = _default.pool = 60.0


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


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave how the run ended: `make` makes a 2 of everything, and 1 means failed tests only."""
    if hasattr(session.config, "cache"):
        session.config.cache.set("cache/exitstatus", int(exitstatus))
