"""The list of checks that are taken away is complete for every kind of check there is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.conftest import ROOT

SOURCE = '''\
"""A module of the verifier."""
from typing import TypeAlias
REFUSED = frozenset({"one", "two"})
_BITS = ((0b101, "odd"),)
Kind: TypeAlias = int | str


def accept(value, page):
    """Say whether it is accepted."""
    if value is None or not 0 <= value < 9:
        raise ValueError("no such value")
    if (value, page.name) != (3, "x"):
        page.rejected("ID", "not this")
    members.text("name", pattern=NAME)
    return [one for one in value if one in REFUSED]


def holds(value) -> bool:
    """Answer."""
    return value == 1


def words(value) -> str:
    """Only say it."""
    return "a" if value else "b"
'''


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "check_sites.py"
    spec = importlib.util.spec_from_file_location("check_sites_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        # It is run as a program, which finds its neighbours.
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    file = tmp_path / "attestation" / "verifier" / "small.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE, encoding="utf-8")
    return tmp_path


def test_every_kind_of_check_is_found(tool: ModuleType, tree: Path) -> None:
    changes = [site.change for site in tool.sites(tree)]
    assert changes == [
        "without 'one'",
        "without 'two'",
        "without (5, 'odd')",
        "without bit 0 of 0x5",
        "without bit 2 of 0x5",
        "never: if value is None or not 0 <= value < 9",
        "without value is None: value is None or not 0 <= value < 9",
        "without not 0 <= value < 9: value is None or not 0 <= value < 9",
        "only 0 <= value: 0 <= value < 9",
        "only value < 9: 0 <= value < 9",
        "not raised: raise ValueError('no such value')",
        "never: if (value, page.name) != (3, 'x')",
        "without value: (value, page.name) != (3, 'x')",
        "without page.name: (value, page.name) != (3, 'x')",
        "not called: page.rejected('ID', 'not this')",
        "not called: members.text('name', pattern=NAME)",
        "without pattern=NAME: members.text('name', pattern=NAME)",
        "never: … if one in REFUSED",
        "always: … if one in REFUSED",
        "always True: return value == 1",
        "always False: return value == 1",
    ]


def test_change_is_there_once_and_gone_afterwards(tool: ModuleType, tree: Path) -> None:
    site = next(one for one in tool.sites(tree) if one.change.startswith("always True"))
    space: dict[str, object] = {}
    exec(sys.modules["check_change"].code_of(site, "small.py"), space)  # noqa: S102  (the module above)
    assert space["holds"](2)  # type: ignore[operator]
    exec(compile(site.tree, "small.py", "exec"), space)  # noqa: S102
    assert not space["holds"](2)  # type: ignore[operator]


def test_sites_of_equal_code_have_different_ids(tool: ModuleType, tree: Path) -> None:
    file = tree / "attestation" / "verifier" / "twice.py"
    file.write_text("def f(a):\n    if a:\n        g()\n        g()\n", encoding="utf-8")
    ids = [site.id for site in tool.sites(tree, "attestation/verifier/twice.py")]
    assert len(ids) == len(set(ids)) == 3


def test_every_file_that_can_refuse_evidence_is_in_the_list(tool: ModuleType) -> None:
    paths = {site.path for site in tool.sites(ROOT)}
    for name in ("pipeline", "quotes", "tcb", "domain", "receipts", "epochs", "audit", "log"):
        assert f"attestation/verifier/{name}.py" in paths
    for path in ("tdx/dcap.py", "tdx/signatures.py", "receipt/signing.py", "merkle/tree.py"):
        assert f"attestation/{path}" in paths


def test_argued_sites_are_few_and_there(tool: ModuleType) -> None:
    import tomllib  # noqa: PLC0415

    file = ROOT / "tools" / "check_mutants.toml"
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["equivalent"]
    ids = {site.id for site in tool.sites(ROOT)}
    assert [entry["site"] for entry in entries if entry["site"] not in ids] == []
    assert len(entries) <= 40
    assert all(len(entry["reason"]) > 20 for entry in entries)
