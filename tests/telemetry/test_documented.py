"""docs/observability.md lists exactly the events, metrics, conditions and attributes there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.access.budgets import UNKEPT
from gateway.api import health
from gateway.edge import waiting
from gateway.notary.conditions import CODES
from gateway.telemetry.events import EVENTS
from gateway.telemetry.families import FAMILIES
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.processes import ProcessMetrics
from gateway.telemetry.spans import ATTRIBUTES

MANUAL = (Path(__file__).parents[2] / "docs" / "observability.md").read_text("utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    return MANUAL.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[tuple[list[str], str]]:
    """The names in the first cell of every row, and the rest of the row."""
    found = []
    for line in section(title).splitlines():
        if line.startswith("| `"):
            cells = line.split("|")
            found.append((CODE.findall(cells[1]), "|".join(cells[2:])))
    return found


def test_every_event_is_documented_with_its_fields_and_no_other() -> None:
    documented = {name: rest for names, rest in rows("Events") for name in names}
    assert documented.keys() == EVENTS.keys()
    for name, shapes in EVENTS.items():
        missing = [field for field in shapes if f"`{field}`" not in documented[name]]
        assert missing == [], name


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    documented = {
        name.partition("{")[0].removesuffix("_total"): set(
            name.partition("{")[2].rstrip("}").split(",")
        )
        - {""}
        for names, _ in rows("Metrics")
        for name in names
    }
    text = (Metrics().render() + ProcessMetrics().render()).decode("ascii")
    own = {
        name.removesuffix("_total")
        for name in re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert documented.keys() == FAMILIES.keys() | own
    for name, family in FAMILIES.items():
        assert documented[name] == set(family.labels), name


@pytest.mark.parametrize(
    "code", [*CODES, waiting.SLOW, waiting.SEALS_SLOW, health.ENGINE_DOWN, "engines_down"]
)
def test_every_code_of_readyz_is_documented(code: str) -> None:
    assert f"| `{code}`" in section("/healthz and /readyz")


def test_every_condition_belongs_to_a_part() -> None:
    assert health._PART_OF.keys() == {*CODES, UNKEPT}


def test_attributes_of_spans_are_documented_and_no_other() -> None:
    found = {
        name for name in CODE.findall(section("Spans")) if re.match(r"(attested|http)\.", name)
    }
    assert found == set(ATTRIBUTES)
