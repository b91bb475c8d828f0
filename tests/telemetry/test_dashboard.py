"""Dashboard and alert rules are what the code writes, and name metrics that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> Any:
    path = ROOT / "tools" / "make_dashboard.py"
    spec = importlib.util.spec_from_file_location("make_dashboard", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["make_dashboard"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_dashboard"]


def test_files_are_what_would_be_written(tool: Any) -> None:
    assert tool.main(["--check"]) == 0
    for path, text in tool.files().items():
        assert (ROOT / path).read_text("utf-8") == text


def test_check_notices_a_changed_and_a_missing_file(
    tool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    assert tool.main(["--check"]) == 1
    assert tool.main([]) == 0
    assert tool.main(["--check"]) == 0
    changed = tmp_path / tool.DASHBOARD
    changed.write_text(changed.read_text() + " ")
    capsys.readouterr()
    assert tool.main(["--check"]) == 1
    assert str(tool.DASHBOARD) in capsys.readouterr().err


def test_every_metric_named_exists(tool: Any) -> None:
    for text in tool.files().values():
        named = tool.named_metrics(text)
        assert len(named) > 5
        assert named <= tool.known_metrics()


def test_metric_that_does_not_exist_is_refused(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = tool.Alert(
        name="A", expression="attested_nonsense > 0", lasting="0m", severity="page", summary="s"
    )
    monkeypatch.setattr(tool, "RULES", (alert,))
    with pytest.raises(ValueError, match="attested_nonsense"):
        tool.files()


def test_known_metrics_are_the_samples_that_are_rendered(tool: Any) -> None:
    known = tool.known_metrics()
    for name in (
        "attested_requests_ended_total",
        "attested_request_seconds_bucket",
        "attested_notary_healthy",
        "attested_workers_replaced_total",
        "attested_epoch_age_seconds",
    ):
        assert name in known
    assert "attested_requests_ended" not in known
    assert "attested_request_seconds" not in known


def test_dashboard_is_one_that_grafana_can_lay_out(tool: Any) -> None:
    panels = json.loads((ROOT / tool.DASHBOARD).read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert all(text.count("(") == text.count(")") for text in expressions)
    assert all("$I" not in text and "$instance" in text for text in expressions)


def test_rules_have_what_prometheus_requires(tool: Any) -> None:
    text = (ROOT / tool.ALERTS).read_text()
    names = re.findall(r"- alert: (\w+)$", text, re.MULTILINE)
    assert names == [rule.name for rule in tool.RULES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"\d+[mh]", rule.lasting) for rule in tool.RULES)
    assert {rule.severity for rule in tool.RULES} == {"page", "ticket"}
    for subject in ("notary_healthy", "epoch_late", "engine_state", "requests_shed"):
        assert subject in text
